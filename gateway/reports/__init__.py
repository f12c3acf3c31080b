"""The reports room: the 24 questions that a regulator asks, each a small function with a name.

`registry.py` has the list and the one call (`make`); `model.py` what is asked and what comes back; the questions stand in files by theme.
`documents.py` reads what was kept of licenses, lists and policies; `judged.py` judges by them once more, as of a time. `render.py` shows
an answer as table, JSON or CSV.

Rules of the room:
- A report reads the common tables (`gateway.history.tables`) in SQL that SQLite and DuckDB both know, kept documents, and notes. It writes nothing.
- What no part of the product records is told as `not collected`: never 0, and never an empty that looks like none. Each such field says
  which part would fill it.
- Each row names records, so that whoever reads it can ask for their proofs. Each answer says what it rests on.
- Nothing is left out silently: beyond `ROWS_MAX` an answer says how many rows there are.
"""
