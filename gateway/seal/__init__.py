"""The sealing room: turns the journal into a log that others can hold us to, in a process of its own.

The sealer reads synced segments, writes tiles and entries, signs heads, has witnesses cosign them, and commits all heads to a fleet log. Workers cannot
ask it to sign anything: it signs only what it read itself and what extends all that it signed before.

`sealer.py` has the rounds, `follow.py` reads a journal's stream, `log.py` is one log on the disk (`batch.py` puts its files down), `fleet.py` and `others.py`
are the fleet log; `process.py` is the process and who starts it, `cli.py` the command; `witness*.py` are witnesses, asked and run.
"""
