"""Reading a partition's file: one SQLite connection, sealed rows, kinds, tally. Synchronous, one thread.

On the disk only sizes and counts can be read: kinds, keys and contents are sealed or replaced by labels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from firmware.errors import StoreCorrupt
from firmware.store.schema import TABLES, blob, connect, named_errors, number_of, text, transaction, whole
from firmware.store.seal import TALLY_BYTES, TALLY_MODULUS, Places, Sealer, WrappedKey, curve_of, slot_of
from hsm.api import PublicKey

_STATE: Final = struct.Struct(f">Q{TALLY_BYTES}s")
COUNTED: Final = ("kind", "item", "record")
"""Tables whose every row is in the tally."""
_AT_ONCE: Final = 500


@dataclass(slots=True)
class Kind:
    """What is known of one kind of rows."""

    identifier: int
    floor: int
    """Records up to this number were trimmed."""
    sealed: bytes
    """The row itself, as it counts in the tally."""
    last: int | None = None
    """Number of the last record; None: not looked up since the last failure."""
    tail: bytes | None = None
    """Plaintext of record `last`, kept for lists that are chained."""


class SealedRows:
    """One partition's file, to be read. Every method runs in the one thread that opened it."""

    def __init__(self, path: Path, name: str, quota_bytes: int | None) -> None:
        """Open or create the file and bring its schema up to date.

        Raises:
            StoreCorrupt: not a partition's file, or damaged.
            StoreUnavailable: not readable and writable now, or made by a newer firmware.
        """
        self._name, self._places = name, Places(name)
        self._kinds: dict[str, Kind] = {}
        self._epoch = self._tally = 0
        self.salvage = False
        """Leave out kinds whose names cannot be read, instead of refusing the file."""
        self._db = connect(path, name, quota_bytes)
        self._sealer: Sealer

    @property
    def epoch(self) -> int:
        """The epoch that was noted last; 0 in a file that was never bound to a module's counter."""
        return self._epoch

    def wrapped_keys(self) -> list[WrappedKey]:
        """Return the forms of the key that the header holds, none in a new file."""
        with named_errors(self._name):
            statement = "SELECT curve, store, ephemeral, wrapped, slot FROM header ORDER BY slot"
            rows = self._db.execute(statement).fetchall()
            if not rows:
                for table in TABLES:
                    if number_of(self._db, f"SELECT EXISTS (SELECT 1 FROM {table})"):  # noqa: S608 - our own
                        raise StoreCorrupt(f"partition {self._name}: the header is missing")
        return [
            WrappedKey(
                PublicKey(curve_of(text(curve)), blob(store)),
                blob(ephemeral),
                blob(wrapped),
                slot_of(whole(slot)),
            )
            for curve, store, ephemeral, wrapped, slot in rows
        ]

    def unlock(self, key: bytes, salt: bytes, wrapped: WrappedKey | None) -> int:
        """Note this opening and its salt, and `wrapped` in a new file; return the opening's number.

        Raises:
            StoreCorrupt: the rows that name the kinds are damaged or missing.
            StoreUnavailable: the file cannot be written now.
        """
        with named_errors(self._name):
            opening = number_of(self._db, "SELECT coalesce(max(number), 0) + 1 FROM opening")
            self._sealer = Sealer(key, opening, salt, self._salt_of)
            with transaction(self._db):
                if wrapped is not None:
                    self._write_header(wrapped)
                self._db.execute("INSERT INTO opening VALUES (?, ?)", (opening, salt))
            self._load()
        return opening

    # --- reading -------------------------------------------------------------------------------------------

    def get(self, kind: str, key: str) -> bytes | None:
        """Return what is under `key`, None if nothing is."""
        row = self._kinds.get(kind)
        if row is None:
            return None
        with named_errors(self._name):
            label = self._sealer.label(self._places.key(kind, key))
            statement = "SELECT sealed FROM item WHERE kind = ? AND label = ?"
            found = self._db.execute(statement, (row.identifier, label)).fetchone()
        return None if found is None else self._open_item(kind, label, found[0])[1]

    def items(self, kind: str) -> list[tuple[str, bytes]]:
        """Return (key, plaintext) of all items of a kind, in the order in which their keys were first put."""
        row = self._kinds.get(kind)
        if row is None:
            return []
        with named_errors(self._name):
            statement = "SELECT label, sealed FROM item WHERE kind = ? ORDER BY id"
            return [self._open_item(kind, *found) for found in self._db.execute(statement, (row.identifier,))]

    def records(self, kind: str, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return (number, plaintext) of the records after number `after`, at most `limit` (-1: all).

        Raises:
            StoreCorrupt: names kind and number of the first record that is damaged or missing.
        """
        row = self._kinds.get(kind)
        if row is None:
            return []
        found: list[tuple[int, bytes]] = []
        expected = max(after, row.floor) + 1
        with named_errors(self._name):
            statement = (
                "SELECT number, sealed FROM record WHERE kind = ? AND number > ? ORDER BY number LIMIT ?"
            )
            for number, sealed in self._db.execute(statement, (row.identifier, after, limit)):
                if number != expected:
                    raise StoreCorrupt(f"partition {self._name}: {kind} record {expected} is missing")
                found.append((number, self._open_record(kind, number, sealed)))
                expected += 1
            if len(found) != limit and expected <= self._last(kind, row):
                raise StoreCorrupt(f"partition {self._name}: {kind} record {expected} is missing")
        return found

    def span(self, kind: str) -> tuple[int, int]:
        """Return (number of the oldest record, of the newest); (n + 1, n) if there is none."""
        row = self._kinds.get(kind)
        if row is None:
            return 1, 0
        with named_errors(self._name):
            return row.floor + 1, self._last(kind, row)

    def kinds(self) -> list[str]:
        """Return the names of all kinds in use."""
        return list(self._kinds)

    # --- what is wrong -------------------------------------------------------------------------------------

    def tally_fault(self) -> StoreCorrupt | None:
        """Look at every page and compare all rows with the tally.

        Returns:
            None if the trees and their indexes agree and no row was removed, put back, or added by a
            stranger. Whether the rows open is not looked at: `damage` does that.
        """
        try:
            with named_errors(self._name):
                (words,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
                if words != "ok":
                    return StoreCorrupt(f"partition {self._name}: {words}")
                if self._sealed_state() is None or self._tally_of_rows() == self._tally:
                    return None
        except StoreCorrupt as fault:
            return fault
        return StoreCorrupt(f"partition {self._name}: rows were removed, put back or changed")

    def damage(self) -> list[StoreCorrupt]:
        """Read everything and return what is wrong, one error a place; an empty list: all is well."""
        faults: list[StoreCorrupt] = []
        try:
            with named_errors(self._name):
                for (words,) in self._db.execute("PRAGMA integrity_check(20)"):
                    if words != "ok":
                        faults.append(StoreCorrupt(f"partition {self._name}: {words}"))
        except StoreCorrupt as fault:
            faults.append(fault)
        for kind, row in self._kinds.items():
            faults += self._damage_of(kind, row)
        missing = None if faults else self.tally_fault()
        return faults if missing is None else [missing]

    def _damage_of(self, kind: str, row: Kind) -> Iterator[StoreCorrupt]:
        checks = (
            ("SELECT number, sealed FROM record WHERE kind = ? ORDER BY number", self._open_record),
            ("SELECT label, sealed FROM item WHERE kind = ? ORDER BY id", self._open_item),
        )
        for statement, check in checks:
            try:
                with named_errors(self._name):
                    for place, sealed in self._db.execute(statement, (row.identifier,)):
                        try:
                            check(kind, place, sealed)
                        except StoreCorrupt as fault:
                            yield fault
            except StoreCorrupt as fault:  # the page itself: what lies behind it cannot be reached
                yield fault

    def close(self) -> None:
        """Write the log back into the file and close it."""
        with named_errors(self._name):
            self._db.close()

    # --- parts ---------------------------------------------------------------------------------------------

    def _open_record(self, kind: str, number: object, sealed: object) -> bytes:
        try:
            return self._sealer.open(self._places.record(kind, whole(number)), blob(sealed))
        except StoreCorrupt as error:
            raise StoreCorrupt(f"partition {self._name}: {kind} record {number}: {error}") from error

    def _open_item(self, kind: str, label: object, sealed: object) -> tuple[str, bytes]:
        try:
            plaintext = self._sealer.open(self._places.item(kind, blob(label)), blob(sealed))
        except StoreCorrupt as error:
            shown = label.hex() if isinstance(label, bytes) else "?"
            raise StoreCorrupt(f"partition {self._name}: {kind} item {shown}: {error}") from error
        end = 2 + int.from_bytes(plaintext[:2], "big")
        return plaintext[2:end].decode(), plaintext[end:]

    def _sealed_record(self, row: Kind, number: int) -> bytes | None:
        statement = "SELECT sealed FROM record WHERE kind = ? AND number = ?"
        found = self._db.execute(statement, (row.identifier, number)).fetchone()
        return None if found is None else blob(found[0])

    def _tally_of_rows(self) -> int:
        tally = 0
        for table in COUNTED:
            rows = self._db.execute(f"SELECT sealed FROM {table}")  # noqa: S608 - our own names
            while part := rows.fetchmany(_AT_ONCE):
                tally += self._sealer.tally([blob(sealed) for (sealed,) in part])
        return tally % TALLY_MODULUS

    def _sealed_state(self) -> bytes | None:
        found = self._db.execute("SELECT sealed FROM state").fetchone()
        return None if found is None else blob(found[0])

    def _last(self, kind: str, row: Kind) -> int:
        if row.last is None:
            statement = "SELECT max(number) FROM record WHERE kind = ?"
            last = self._db.execute(statement, (row.identifier,)).fetchone()[0]
            row.last = row.floor if last is None else whole(last)
            if row.last < row.floor:
                raise StoreCorrupt(f"partition {self._name}: {kind} holds a record that was trimmed")
        return row.last

    def _load(self) -> None:
        """Read what is kept in memory: the names of the kinds, epoch and tally."""
        kinds: dict[str, Kind] = {}
        for identifier, sealed in self._db.execute("SELECT id, sealed FROM kind").fetchall():
            try:
                plaintext = self._sealer.open(self._places.kind_row(whole(identifier)), blob(sealed))
            except StoreCorrupt as error:
                if self.salvage:
                    continue
                raise StoreCorrupt(f"partition {self._name}: name of kind {identifier}: {error}") from error
            kinds[plaintext[8:].decode()] = Kind(identifier, int.from_bytes(plaintext[:8], "big"), sealed)
        # A kind whose name is gone must not silently begin again at record 1: a ledger would repeat itself.
        known = {row.identifier for row in kinds.values()}
        for table in ("record", "item"):
            used = 0
            statement = f"SELECT kind FROM {table} WHERE kind > ? ORDER BY kind LIMIT 1"  # noqa: S608 - our own names
            while found := self._db.execute(statement, (used,)).fetchone():
                used = whole(found[0])
                if used not in known and not self.salvage:
                    raise StoreCorrupt(f"partition {self._name}: the name of kind {used} is missing")
        self._kinds = kinds
        self._load_state()

    def _load_state(self) -> None:
        sealed = self._sealed_state()
        if sealed is None:  # a new file, or one from before there was a tally: of epoch 0
            self._epoch, self._tally = 0, self._tally_of_rows()
            return
        try:
            plaintext = self._sealer.open(self._places.state(), sealed)
        except StoreCorrupt as error:
            if self.salvage:
                return
            raise StoreCorrupt(f"partition {self._name}: epoch and tally: {error}") from error
        self._epoch, tally = _STATE.unpack(plaintext)
        self._tally = int.from_bytes(tally, "big")

    def _write_state(self) -> None:
        plaintext = _STATE.pack(self._epoch, self._tally.to_bytes(TALLY_BYTES, "big"))
        sealed = self._sealer.seal(self._places.state(), plaintext)
        self._db.execute("INSERT OR REPLACE INTO state VALUES (1, ?)", (sealed,))

    def _write_header(self, wrapped: WrappedKey) -> None:
        row = (
            int(wrapped.slot),
            wrapped.store.curve.value,
            wrapped.store.point,
            wrapped.ephemeral_point,
            wrapped.wrapped,
        )
        self._db.execute("INSERT OR REPLACE INTO header VALUES (?, ?, ?, ?, ?)", row)

    def _salt_of(self, opening: int) -> bytes | None:
        found = self._db.execute("SELECT salt FROM opening WHERE number = ?", (opening,)).fetchone()
        return None if found is None else blob(found[0])
