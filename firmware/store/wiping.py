"""One consumer's data leave the gateway for good: rows, bytes, and the key they were sealed under."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from firmware.errors import StoreCorrupt
from firmware.store.operations import Delete, Forget, Operation, Sift
from firmware.store.retention import day_of
from firmware.store.stores import SealedOutbox, Stores


async def wipe_consumer(
    stores: Stores, consumer: str, *, processing: Collection[str], meters: Collection[str]
) -> int:
    """Remove what was measured, derived and logged for one consumer; return how many rows went.

    The rows go in one transaction. Then the whole partition is sealed anew under another key, so that copies
    of the old bytes, wherever a memory card keeps them, open no more with what lies on the disk; then the
    file is rewritten without them. Cut short, the rest is done by calling it again. What stays: the last
    accepted counter of each meter (a replay must not pass), and messages on their way, which only their
    recipients can open, without the consumer's name.

    Args:
        stores: open.
        consumer: whose log goes.
        processing: the consumer's processing profiles.
        meters: the consumer's meters, as readings name them.

    Raises:
        HsmError, StoreUnavailable, StoreCorrupt: it is not complete.
    """
    partition = stores.consumer
    operations: list[Operation] = [
        Forget(f"log/consumer/{consumer}"),
        Forget(f"seal/consumer/{consumer}"),
        Delete("log.start", f"consumer/{consumer}"),
        Sift("reading", lambda text: _meter(text) not in meters),
    ]
    for kind in await partition.kinds():
        day = day_of(kind)
        if day is not None and day[1] in processing:
            operations.append(Forget(kind))
    operations += [Delete("progress", f"registered/{profile}") for profile in processing]
    operations += [Delete("progress", f"closed/{profile}") for profile in processing]
    operations += [Forget(f"event/{profile}") for profile in processing]
    operations += [Delete("meter-state", meter) for meter in meters]
    nameless = await SealedOutbox(partition).disown(consumer)
    gone = sum((await partition.commit([*operations, *nameless]))[: len(operations)])
    await stores.change_key_of(partition)
    await partition.compact()
    return gone


def _meter(text: bytes) -> str:
    """Return the meter of a reading as `firmware.flow.intake` keeps it: the first element of a JSON array."""
    try:
        return str(msgspec.json.decode(text, type=list[object])[0])
    except (msgspec.DecodeError, IndexError) as error:
        raise StoreCorrupt("a stored reading cannot be read") from error
