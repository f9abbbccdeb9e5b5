"""Tests whose parts keep appointments run while no other test does: of this run, or of another one here.

Two locked files make it fair. Whoever enters passes the door; who wants to be alone keeps it shut until those
who are inside have left, so a stream of short tests cannot keep such a test waiting.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_INSIDE_A_TEST: Final = "PYTEST_CURRENT_TEST"


class Floor:
    """Where this user's tests run."""

    def __init__(self, folder: Path) -> None:
        """Make or find the two files.

        Args:
            folder: the same one for everybody who shares the machine.
        """
        self._door, self._inside = (
            os.open(folder / f"smgw-tests-{os.getuid()}-{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            for name in ("door", "inside")
        )

    @contextmanager
    def entered(self, *, alone: bool) -> Iterator[None]:
        """Wait until a test may begin, and let others in when it has ended."""
        fcntl.flock(self._door, fcntl.LOCK_EX)
        fcntl.flock(self._inside, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._inside, fcntl.LOCK_UN)


def floor() -> Floor | None:
    """Return the machine's; None for a run that a test started: that one waits for it."""
    return None if _INSIDE_A_TEST in os.environ else Floor(Path(tempfile.gettempdir()))
