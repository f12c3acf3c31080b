"""The processes that look for names, from within."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

from filters import Finding
from gateway.names.serve import _Server


class Nobody:
    """Finds nothing, and must not be asked."""

    name = "nobody"
    version = "1"
    entities = frozenset({"PERSON"})

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        """Never."""
        raise AssertionError(texts)


def test_a_child_whose_parent_was_killed_at_once_ends(tmp_path: Path) -> None:
    """Before it could even ask who its parent is: it is given another one, which is not who forked it."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        caller.connect(str(tmp_path / "s"))
        _Server(Nobody(), listener, 5.0, mute=False)._serve(os.getpid())  # ours is another process's
        caller.setblocking(False)
        listener.accept()[0].close()  # nothing was taken up
