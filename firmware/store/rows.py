"""Reading a partition's file: one SQLite connection, sealed rows, kinds, tally. Synchronous, one thread.

On the disk only sizes and counts can be read: kinds, keys and contents are sealed or replaced by labels.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from firmware.errors import StoreCorrupt
from firmware.store.runs import length, split_row
from firmware.store.schema import TABLES, blob, connect, named_errors, number_of, text, transaction, whole
from firmware.store.seal import TALLY_BYTES, TALLY_MODULUS, Places, Sealer, WrappedKey, curve_of, slot_of
from hsm.api import PublicKey

_STATE: Final = struct.Struct(f">Q{TALLY_BYTES}s")
COUNTED: Final = ("kind", "item", "record")
"""Tables whose every row is in the tally."""
_AT_ONCE: Final = 500
_SPANS: Final = """
SELECT kind, min(number), max(number + count - 1), sum(count)
  FROM (SELECT kind, number, CASE WHEN ends IS NULL THEN 1 ELSE length(ends) / 2 END AS count FROM record)
 GROUP BY kind
"""
"""Of each kind: its first and last record, and how many there are."""


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
            for number, sealed in self._sealed_records(row, expected, limit):
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
                    return self._misplaced()
        except StoreCorrupt as fault:
            return fault
        return StoreCorrupt(f"partition {self._name}: rows were removed, put back or changed")

    def _misplaced(self) -> StoreCorrupt | None:
        """Return the first row that lies where nobody would ever look for it, None if there is none.

        The tally counts tags, and a tag moved to another kind, label or number is the same tag: it would be
        as if the row had been removed. So each item must open where it lies, every kind has as many records
        as lie between its first and its last, and the last one opens. What is left, records that changed
        places within a list or a gap that another one makes up for, is noticed when the list is read.
        """
        kinds = {row.identifier: kind for kind, row in self._kinds.items()}  # all there are, see `_load`
        items = self._db.execute("SELECT kind, label, sealed FROM item")
        while part := items.fetchmany(_AT_ONCE):
            named = [(kinds[identifier], *found) for identifier, *found in part if identifier in kinds]
            places = [self._places.item(kind, blob(label)) for kind, label, _ in named]
            wrong = self._sealer.first_misplaced(places, [blob(sealed) for _, _, sealed in named])
            if wrong is not None:
                return self._fault_of(self._open_item, *named[wrong])
        floors = {row.identifier: row.floor for row in self._kinds.values()}
        for identifier, first, last, count in self._db.execute(_SPANS):
            if identifier in floors and (first, count) != (floors[identifier] + 1, last - first + 1):
                where = f"partition {self._name}: {kinds[identifier]}"
                return StoreCorrupt(f"{where} has records too many or too few")
        newest = "SELECT number, sealed, ends FROM record WHERE kind = ? ORDER BY number DESC LIMIT 1"
        for identifier, kind in kinds.items():
            for found in self._db.execute(newest, (identifier,)):
                if fault := self._fault_of(self._open_record, kind, *self._split(found)[-1]):
                    return fault
        return None

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
            faults += [fault for fault in self._examined(kind, row) if fault is not None]
        missing = None if faults else self.tally_fault()
        return faults if missing is None else [missing]

    def _examined(self, kind: str, row: Kind) -> Iterator[StoreCorrupt | None]:
        """Try to open all that is of one kind; yield None for what opens, and one error a place otherwise."""
        try:
            with named_errors(self._name):
                statement = "SELECT number, sealed, ends FROM record WHERE kind = ? ORDER BY number"
                for run in self._db.execute(statement, (row.identifier,)):
                    try:
                        records = self._split(run)
                    except StoreCorrupt as fault:
                        yield fault
                        continue
                    for number, sealed in records:
                        yield self._fault_of(self._open_record, kind, number, sealed)
        except StoreCorrupt as fault:  # the page itself: what lies behind it cannot be reached
            yield fault
        try:
            with named_errors(self._name):
                statement = "SELECT label, sealed FROM item WHERE kind = ? ORDER BY id"
                for label, sealed in self._db.execute(statement, (row.identifier,)):
                    yield self._fault_of(self._open_item, kind, label, sealed)
        except StoreCorrupt as fault:
            yield fault

    @staticmethod
    def _fault_of(
        check: Callable[[str, object, object], object], kind: str, place: object, sealed: object
    ) -> StoreCorrupt | None:
        try:
            check(kind, place, sealed)
        except StoreCorrupt as fault:
            return fault
        return None

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

    def _sealed_records(self, row: Kind, first: int, limit: int = -1) -> Iterator[tuple[int, bytes]]:
        """Yield (number, sealed bytes) from record `first` on, at most `limit`, -1: all."""
        statement = (
            "SELECT number, sealed, ends FROM record WHERE kind = ? AND number >= ? ORDER BY number LIMIT ?"
        )
        # The row that `first` lies in may hold only records before it: so one row more.
        most = -1 if limit < 0 else limit + 1
        for found in self._db.execute(statement, (row.identifier, self._begin(row, first), most)):
            for record in self._split(found):
                if limit == 0:
                    return
                if record[0] >= first:
                    yield record
                    limit -= 1

    def _split(self, row: tuple[object, object, object]) -> list[tuple[int, bytes]]:
        """Return (number, sealed bytes) of each record of a row (number, sealed, ends)."""
        try:
            return split_row(*row)
        except StoreCorrupt as error:
            raise StoreCorrupt(f"partition {self._name}: {error}") from error

    def _begin(self, row: Kind, number: int) -> int:
        """Return the first number of the row that record `number` would lie in, if there is such a row."""
        statement = "SELECT max(number) FROM record WHERE kind = ? AND number <= ?"
        (begin,) = self._db.execute(statement, (row.identifier, number)).fetchone()
        return number if begin is None else whole(begin)

    def _run_of(self, row: Kind, number: int) -> list[tuple[int, bytes]]:
        """Return (number, sealed bytes) of all that shares a row with a record; empty if it is not there."""
        statement = "SELECT number, sealed, ends FROM record WHERE kind = ? AND number = ?"
        found = self._db.execute(statement, (row.identifier, self._begin(row, number))).fetchone()
        run = [] if found is None else self._split(found)
        return run if run and run[-1][0] >= number else []

    def _tally_of_rows(self) -> int:
        tally = 0
        for table in COUNTED:
            columns = "number, sealed, ends" if table == "record" else "1, sealed, NULL"
            rows = self._db.execute(f"SELECT {columns} FROM {table}")  # noqa: S608 - our own names
            while part := rows.fetchmany(_AT_ONCE):
                tally += self._tally_of(part)
        return tally % TALLY_MODULUS

    def _tally_of(self, rows: Iterable[tuple[object, object, object]]) -> int:
        """Return what rows (number, sealed, ends) add to the tally: each record of theirs."""
        return self._sealer.tally([sealed for row in rows for _, sealed in self._split(row)])

    def _sealed_state(self) -> bytes | None:
        found = self._db.execute("SELECT sealed FROM state").fetchone()
        return None if found is None else blob(found[0])

    def _last(self, kind: str, row: Kind) -> int:
        if row.last is None:
            statement = "SELECT number, ends FROM record WHERE kind = ? ORDER BY number DESC LIMIT 1"
            last = self._db.execute(statement, (row.identifier,)).fetchone()
            row.last = row.floor
            if last is not None:
                row.last = whole(last[0]) + length(last[1]) - 1
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
