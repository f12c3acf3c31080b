"""`licet scan`: the filters over files, folders and standard input, for a person at a terminal and for CI.

    sources.py   which files, and their text in pieces
    lines.py     the string fields of JSON lines
    places.py    offsets to lines and columns, while the text goes by
    look.py      pieces to findings: engine, models for names, policy
    report.py    findings to a table, JSON or SARIF
    cli.py       the command

Everything streams: a file is never in memory whole, and a report is written while it is made. What cannot be read or
decided is a problem that is named, and the exit code says so (L1); no report holds a value (L7).
"""
