"""What many gateways take of one process: open files, memory, processor time."""

from __future__ import annotations

import os
import re
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

FILES_PER_GATEWAY: Final = 20
"""Three stores with log and lock, the module's memory, a pseudo terminal, connections; some to spare."""
_FILES_BESIDE: Final = 128


class StreetTooLarge(Exception):
    """The system does not let one process have that many files open."""


def reserve_files(gateways: int) -> int:
    """Raise the soft limit of open files to what `gateways` need; return the limit that holds now.

    Raises:
        StreetTooLarge: the hard limit is lower; says how many gateways fit and what to change.
    """
    need = _FILES_BESIDE + gateways * FILES_PER_GATEWAY
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= need:
        return soft
    if hard != resource.RLIM_INFINITY and hard < need:
        fit = max(0, (hard - _FILES_BESIDE) // FILES_PER_GATEWAY)
        raise StreetTooLarge(
            f"{gateways} gateways need {need} open files, this system allows {hard}: {fit} gateways fit, "
            f"or raise the hard limit (`ulimit -Hn`, LimitNOFILE= of a unit)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))
    return need


@dataclass(frozen=True, slots=True)
class Taken:
    """What this process has taken so far."""

    files: int
    memory_mb: float
    """Resident."""
    processor_s: float
    """Of all its threads."""
    elapsed_s: float
    """On a clock that never goes back."""

    @classmethod
    def now(cls) -> Self:
        """Look."""
        status = Path("/proc/self/status").read_text(encoding="ascii")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None, "Linux tells it"
        return cls(
            len(os.listdir("/proc/self/fd")), int(found[1]) / 1024, time.process_time(), time.monotonic()
        )
