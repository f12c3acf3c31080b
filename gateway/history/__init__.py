"""The history room: questions about what is sealed, and answers that say how complete they are.

`port.py` has the one question (`Query`) and what an answer is; `tables.py` the flat rows that records become. The adapters answer:
`local.py` from a SQLite index, `archive.py` from Parquet by DuckDB, `phoenix.py` from a telemetry backend. Index and archive are derived from sealed logs and
can be made again from them; what cannot be derived is never kept here.
"""
