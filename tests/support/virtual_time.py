"""`instant_loop` for tests whose certificates are made while they run: time begins at a full hour soon."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from tests.support import instant_loop

BEGIN: Final = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
"""A full hour soon: certificates made during the test are valid then."""
run_virtually = instant_loop.run


class VirtualClock(instant_loop.VirtualClock):
    """The loop's time as UTC, from `BEGIN` on."""

    def __init__(self) -> None:
        super().__init__(BEGIN)
