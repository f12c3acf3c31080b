"""Builds `licet_verify` from the gateway's room of formats, `gateway/tlog`, with the gateway's version.

    pip wheel --no-deps deploy/verifier        from a checkout

The sources stay where they are, so that there is one of each.
"""

import os
import re
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
GATEWAY = HERE.parents[1] / "gateway"
PACKAGE = "licet_verify"


def version() -> str:
    """The gateway's."""
    found = re.search(r'^__version__ = "([^"]+)"$', (GATEWAY / "__init__.py").read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{GATEWAY / '__init__.py'} names no version; build this from a whole checkout")
    return found[1]


class WithLicense(build_py):  # type: ignore[misc]  # setuptools ships no types here
    """The room's modules with the two files that stand above it."""

    def run(self) -> None:
        """See setuptools."""
        super().run()
        for path in (GATEWAY / "py.typed", GATEWAY.parent / "LICENSE"):
            self.copy_file(str(path), str(Path(self.build_lib) / PACKAGE / path.name))


with tempfile.TemporaryDirectory() as scratch:  # nothing of an earlier build gets in, and a checkout stays as it is
    setup(
        version=version(),
        packages=[PACKAGE],
        package_dir={PACKAGE: os.path.relpath(GATEWAY / "tlog", HERE)},
        package_data={PACKAGE: ["FORMAT.md"]},
        cmdclass={"build_py": WithLicense},
        options={"build": {"build_base": scratch}, "egg_info": {"egg_base": scratch}},
    )
