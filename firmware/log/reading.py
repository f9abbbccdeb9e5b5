"""The one way to read a log: asks the role table, bounds what is handed out, logs the reading."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import msgspec

from firmware.clock.clock import Clock
from firmware.enforcement.roles import Reader, require_read
from firmware.errors import AccessRefused, StoreUnavailable
from firmware.log.entry import Entry, Event, Level, LogKind, Outcome
from firmware.log.export import FORMAT, Header, Trailer, write_export
from firmware.log.journal import Journal, Logs
from firmware.log.seal import export_content
from hsm.api import PublicKey

MAX_ENTRIES: Final = 1000
"""Entries of one reading at most (devices on the market hand out 1000 to 1500)."""
MAX_BYTES: Final = 1 << 20
"""Bytes of entries in one reading at most; at least one entry is always handed out."""


MAX_NUMBER: Final = 1 << 62
"""No entry ever has a number above it."""


class Signer(Protocol):
    """`firmware.log.sealer.Sealer`: signs about logs with the module's key."""

    async def key(self) -> PublicKey | None:
        """Return the public half of the key, None if the module has none."""

    async def sign(self, content: bytes) -> tuple[PublicKey, bytes] | None:
        """Sign; None if the module has no key for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Which entries are asked for: by number, by time, or the newest."""

    after: int = 0
    """Only those after this number."""
    newest: int | None = None
    """Only so many of the newest."""
    from_utc: datetime | None = None
    to_utc: datetime | None = None
    limit: int = MAX_ENTRIES

    def __post_init__(self) -> None:
        few = self.limit < 1 or (self.newest is not None and self.newest < 1)
        if few or not 0 <= self.after <= MAX_NUMBER:
            raise ValueError(f"after is 0 to {MAX_NUMBER}, limit and newest are at least 1")
        if any(at is not None and at.tzinfo is None for at in (self.from_utc, self.to_utc)):
            raise ValueError("instants have a time zone")


class LogReader:
    """Reads logs for people.

    Args:
        logs: all of them.
        clock: dates exports.
        gateway: id, lower case.
        signer: closes exports.
        certificates: PEM of the gateway's SIG certificate and those between it and the root, for exports.
    """

    def __init__(
        self,
        logs: Logs,
        clock: Clock,
        gateway: str,
        *,
        signer: Signer,
        certificates: tuple[str, ...] = (),
    ) -> None:
        self._logs, self._clock, self._gateway = logs, clock, gateway
        self._signer, self._certificates = signer, certificates

    async def read(
        self, reader: Reader, kind: LogKind, consumer: str = "", what: Range | None = None
    ) -> list[Entry]:
        """Return entries, oldest first, at most `MAX_ENTRIES` and `MAX_BYTES`; the reading is logged.

        Raises:
            AccessRefused: the role table says no, which is logged, too; or the own log does not exist yet.
            StoreUnavailable: what a consumer reads must be logged, and cannot be now.
            StoreCorrupt: an entry is damaged.
        """
        journal = await self._open(reader, kind, consumer)
        found = [Entry.from_bytes(data) for _, data in await self._records(journal, what or Range())]
        await self._note(reader, journal, found[0].number if found else 0, len(found), "read")
        return found

    async def export(
        self, reader: Reader, kind: LogKind, consumer: str = "", what: Range | None = None
    ) -> bytes:
        """Return entries as a file that `check_export` verifies anywhere; else as `read`."""
        journal = await self._open(reader, kind, consumer)
        records = await self._records(journal, what or Range())
        oldest, newest = await journal.span()
        after = records[0][0] - 1 if records else newest
        start = await journal.head(after)
        key = await self._signer.key()
        header = msgspec.json.encode(
            Header(
                format=FORMAT,
                gateway=self._gateway,
                log=journal.name,
                reader=str(reader),
                exported_utc=self._clock.now_utc(),
                after=start.number,
                start=start.digest,
                count=len(records),
                oldest=oldest,
                newest=newest,
                curve="" if key is None else key.curve.value,
                point="" if key is None else key.point.hex(),
                certificates=self._certificates,
            )
        )
        last = records[-1][0] if records else after
        seals = [data.decode() for _, data in await journal.seals()]
        trailer = Trailer(seals=tuple(_covering(seals, start.number, last)), closing="")
        digests = trailer.digests_of([data for _, data in records])
        closing = await self._signer.sign(export_content(header, digests))
        text = write_export(header, records, msgspec.structs.replace(
            trailer, digests=tuple(digests), closing="" if closing is None else closing[1].hex()
        ))  # fmt: skip
        await self._note(reader, journal, after + 1, len(records), "export")
        return text

    async def _open(self, reader: Reader, kind: LogKind, consumer: str) -> Journal:
        try:
            require_read(reader, kind, consumer)
        except AccessRefused as refused:
            await self._logs.system.write(
                Event.ACCESS_DENIED,
                Outcome.FAILURE,
                level=Level.WARNING,
                subject=f"log {kind.value}",
                user=str(reader),
                text=str(refused),
            )
            raise
        if kind is LogKind.CONSUMER and consumer not in await self._logs.consumers():
            raise AccessRefused(f"there is no log of consumer {consumer}")
        return self._logs.of(kind, consumer)

    async def _records(self, journal: Journal, what: Range) -> list[tuple[int, bytes]]:
        oldest, newest = await journal.span()
        after = max(what.after, oldest - 1)
        if what.newest is not None:
            after = max(after, newest - min(what.newest, MAX_ENTRIES))
        found: list[tuple[int, bytes]] = []
        size = 0
        limit = min(what.limit, MAX_ENTRIES)
        while len(found) < limit:
            records = await journal.records(after, min(_PAGE, limit - len(found)))
            for number, data in records:
                after = number
                at_utc = Entry.from_bytes(data).at_utc
                if not found and what.from_utc is not None and at_utc < what.from_utc:
                    continue
                # What is handed out stays one piece of the chain, whatever the clock did in between.
                beyond = what.to_utc is not None and at_utc > what.to_utc
                if beyond or (found and size + len(data) > MAX_BYTES):
                    return found
                found.append((number, data))
                size += len(data)
            if not records:
                break
        return found

    async def _note(self, reader: Reader, journal: Journal, first: int, count: int, how: str) -> None:
        # The calibration log holds metrology alone, so its reading stands in the system log.
        into = self._logs.system if journal.kind is LogKind.CALIBRATION else journal
        try:
            await into.write(
                Event.LOG_READ,
                sub_event=how,
                subject=f"log {journal.name}",
                user=str(reader),
                first=str(first),
                count=str(count),
            )
        except StoreUnavailable:
            # A full disk must not hide the log that says so; a consumer's log is never read unlogged.
            if journal.kind is LogKind.CONSUMER:
                raise


_PAGE: Final = 200


def _covering(seals: list[str], after: int, last: int) -> list[str]:
    """Return the seals of the entries after `after` up to `last`, and the one before them."""
    decoded = [(msgspec.json.decode(seal, type=_Last).last, seal) for seal in seals]
    inside = [seal for end, seal in decoded if after < end <= last]
    before = [seal for end, seal in decoded if end <= after]
    return [*before[-1:], *inside]


class _Last(msgspec.Struct, frozen=True):
    last: int
