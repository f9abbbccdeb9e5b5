"""`smgw run`: the gateway process by the name under which its users look for it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from firmware.__main__ import main


def app(args: Sequence[str], prog_name: str) -> None:
    """Run `smgwd` with these arguments; ends the process with its exit code."""
    sys.exit(main(args, program=prog_name))
