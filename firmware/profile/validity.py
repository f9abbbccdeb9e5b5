"""From when until when a profile may be said to hold. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from firmware.profile.check_tariffs import Problem
from firmware.profile.instants import INSTANT, whole


def check_validity(place: str, valid_from: datetime, valid_until: datetime | None) -> Iterator[Problem]:
    """Find everything wrong with the validity of the profile at `place`."""
    if not whole(valid_from):
        yield Problem(f"{place}.valid_from", INSTANT)
    if valid_until is not None and valid_until <= valid_from:
        yield Problem(f"{place}.valid_until", "an instant after valid_from")
    if valid_until is not None and not whole(valid_until):
        yield Problem(f"{place}.valid_until", INSTANT)
