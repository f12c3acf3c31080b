"""The reports room: the questions that regulators ask, each with its number, answered from sealed history."""
