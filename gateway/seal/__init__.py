"""The sealing room: turns the journal into a log that others can hold us to, in a process of its own.

The sealer reads synced segments, writes tiles and entries, signs heads, has witnesses cosign them, and commits all heads to a fleet log. Workers cannot
ask it to sign anything: it signs only what it read itself and what extends all that it signed before.
"""
