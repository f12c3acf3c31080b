"""The process that holds a user's recognizers: `python -m gateway.recognizers.serve --socket PATH --file staff.yaml ...`.

It says one line of JSON on standard output: what it is, or a list of problems. A user's code may print while it loads,
which goes to standard error; once texts come its output goes nowhere, for it could quote them (L7).
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from pathlib import Path

import msgspec

from gateway.errors import ConfigError
from gateway.names.serve import serve
from gateway.recognizers.finder import RecognizerFinder


def main() -> int:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--question-s", type=float, required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--file", type=Path, action="append", default=[])
    parser.add_argument("--class", dest="classes", action="append", default=[])
    parser.add_argument("--expect", help="The version that it must have.")
    options = parser.parse_args()
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Behind everything else, so that no file beside the settings stands in for a module of the same name.
    sys.path.append(str(Path(options.source).absolute().parent))
    try:
        finder = RecognizerFinder(options.file, options.classes, source=options.source)
        if options.expect is not None and options.expect != finder.version:
            raise ConfigError(f"{options.source}: recognizers: a file changed since the start; restart")  # noqa: TRY301  # said as any other
    except ConfigError as error:
        out.write(msgspec.json.encode(error.problems).decode() + "\n")
        out.flush()
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems) if options.expect is not None else "")
        return 1
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no texts on disk
    serve(finder, options.socket, options.processes, out, question_s=options.question_s, mute=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
