"""What a consumer's log must be told of an order, kept beside the order's effect until it was. A value."""

from __future__ import annotations

import msgspec

from firmware.log.entry import Event


class News(msgspec.Struct, frozen=True, kw_only=True):
    """One entry to come; holds names and no reading."""

    consumer: str
    event: Event
    text: str
