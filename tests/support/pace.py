"""How fast this machine is just now: tests whose parts keep appointments set their slots by it."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[2]
_LONGEST_S: Final = 30


def slot_s(shortest: int, *, starts: float = 4.0) -> int:
    """Return a slot's length in seconds: so many starts of a gateway's process, and at least `shortest`.

    A start is measured now, with all that runs beside it, so a busy machine gets longer slots.
    """
    began_s = time.monotonic()
    subprocess.run([sys.executable, "-c", "import firmware.boot, wan.client"], cwd=_ROOT, check=True)
    return min(_LONGEST_S, max(shortest, math.ceil(starts * (time.monotonic() - began_s))))
