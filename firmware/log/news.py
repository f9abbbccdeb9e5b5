"""What a log of another partition must be told of an order, kept beside its effect until it was. A value."""

from __future__ import annotations

import msgspec

from firmware.log.entry import Event


class News(msgspec.Struct, frozen=True, kw_only=True):
    """One entry to come; holds names and no reading."""

    consumer: str
    """Whose log; "" for the calibration log."""
    event: Event
    text: str
