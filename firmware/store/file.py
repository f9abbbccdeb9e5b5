"""The SQLite side of a partition: one file, sealed rows, one transaction per batch. Synchronous, one thread.

On the disk only sizes and counts can be read: kinds, keys and contents are sealed or replaced by labels.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.store.operations import Append, Chain, Delete, Insert, KeepNewest, Operation, Put, Trim
from firmware.store.seal import Places, Sealer, WrappedKey, curve_of
from hsm.api import PublicKey

SCHEMA_VERSION: Final = 1
_APPLICATION_ID: Final = 0x534D4757  # "SMGW"
_PAGE_BYTES: Final = 4096
_CORRUPT: Final = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_ERROR,  # our statements are right, so a missing table is a damaged schema
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_TOOBIG,
    }
)
_SCHEMA_1: Final = """
CREATE TABLE header (id INTEGER PRIMARY KEY CHECK (id = 1), curve TEXT NOT NULL, store BLOB NOT NULL,
                     ephemeral BLOB NOT NULL, wrapped BLOB NOT NULL) STRICT;
CREATE TABLE opening (number INTEGER PRIMARY KEY, salt BLOB NOT NULL) STRICT;
CREATE TABLE kind (id INTEGER PRIMARY KEY, sealed BLOB NOT NULL) STRICT;
CREATE TABLE item (id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, label BLOB NOT NULL, sealed BLOB NOT NULL,
                   UNIQUE (kind, label)) STRICT;
CREATE TABLE record (kind INTEGER NOT NULL, number INTEGER NOT NULL, sealed BLOB NOT NULL,
                     PRIMARY KEY (kind, number)) STRICT, WITHOUT ROWID
"""
_MIGRATIONS: Final = {0: _SCHEMA_1}
"""Version -> statements that lead to the next one; all that are due run in one transaction."""


@dataclass(slots=True)
class _Kind:
    identifier: int
    floor: int
    """Records up to this number were trimmed."""
    last: int | None = None
    """Number of the last record; None: not looked up since the last failure."""
    tail: bytes | None = None
    """Plaintext of record `last`, kept for lists that are chained."""


@contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Turn what SQLite and the file system raise into the store's two errors."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        raise StoreUnavailable(f"partition {name} is closed") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
        if code & 0xFF in _CORRUPT or code == sqlite3.SQLITE_IOERR_SHORT_READ:
            raise StoreCorrupt(f"partition {name}: the file is damaged ({error})") from error
        raise StoreUnavailable(f"partition {name}: {error}") from error
    except OSError as error:
        raise StoreUnavailable(f"partition {name}: {error.strerror}") from error


class SealedFile:
    """One partition's file. Every method runs in the one thread that opened it."""

    def __init__(self, path: Path, name: str, quota_bytes: int | None) -> None:
        """Open or create the file and bring its schema up to date.

        Raises:
            StoreCorrupt: not a partition's file, or damaged.
            StoreUnavailable: not readable and writable now, or made by a newer firmware.
        """
        self._name, self._places = name, Places(name)
        self._kinds: dict[str, _Kind] = {}
        with named_errors(name):
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
                _sync_folder(path.parent)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=0.0)
        try:
            with named_errors(name):
                self._prepare(quota_bytes)
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, quota_bytes: int | None) -> None:
        for pragma in (
            "locking_mode=EXCLUSIVE",  # a second process is refused, and no shared-memory file is needed
            "trusted_schema=OFF",
            "cell_size_check=ON",
            "cache_size=-512",
            "temp_store=MEMORY",
            "synchronous=FULL",
        ):
            self._db.execute(f"PRAGMA {pragma}")
        version = self._number("PRAGMA user_version")
        if version > SCHEMA_VERSION:
            raise StoreUnavailable(
                f"partition {self._name} has schema {version}, this firmware knows {SCHEMA_VERSION}"
            )
        if version and self._number("PRAGMA application_id") != _APPLICATION_ID:
            raise StoreCorrupt(f"partition {self._name}: the file is not a partition")
        if self._db.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            raise StoreUnavailable(f"partition {self._name}: the file system bears no write-ahead log")
        if quota_bytes is not None:
            self._db.execute(f"PRAGMA max_page_count={max(quota_bytes // _PAGE_BYTES, 1)}")
        if version < SCHEMA_VERSION:
            with self._transaction():
                for step in range(version, SCHEMA_VERSION):
                    for statement in _MIGRATIONS[step].split(";"):
                        self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def wrapped_key(self) -> WrappedKey | None:
        """Return the key the header holds, None in a new file."""
        with named_errors(self._name):
            row = self._db.execute("SELECT curve, store, ephemeral, wrapped FROM header").fetchone()
            if row is None:
                for table in ("opening", "kind", "item", "record"):
                    if self._number(f"SELECT EXISTS (SELECT 1 FROM {table})"):  # noqa: S608 - our own names
                        raise StoreCorrupt(f"partition {self._name}: the header is missing")
                return None
        curve, store, ephemeral, wrapped = row
        return WrappedKey(PublicKey(curve_of(curve), store), ephemeral, wrapped)

    def unlock(self, key: bytes, salt: bytes, wrapped: WrappedKey | None) -> int:
        """Note this opening and its salt, and `wrapped` in a new file; return the opening's number.

        Raises:
            StoreCorrupt: the rows that name the kinds are damaged or missing.
            StoreUnavailable: the file cannot be written now.
        """
        with named_errors(self._name):
            opening = self._number("SELECT coalesce(max(number), 0) + 1 FROM opening")
            self._sealer = Sealer(key, opening, salt, self._salt_of)
            with self._transaction():
                if wrapped is not None:
                    self._db.execute(
                        "INSERT INTO header VALUES (1, ?, ?, ?, ?)",
                        (
                            wrapped.store.curve.value,
                            wrapped.store.point,
                            wrapped.ephemeral_point,
                            wrapped.wrapped,
                        ),
                    )
                self._db.execute("INSERT INTO opening VALUES (?, ?)", (opening, salt))
            self._load_kinds()
        return opening

    # --- writing -------------------------------------------------------------------------------------------

    def commit(self, batch: Sequence[Sequence[Operation]]) -> list[list[int]]:
        """Carry out all operations in one durable transaction, or none of them.

        Raises:
            StoreCorrupt, StoreUnavailable: nothing was changed.
        """
        try:
            with named_errors(self._name), self._transaction():
                return [[self._carry_out(operation) for operation in operations] for operations in batch]
        except BaseException:
            # What was learned in the transaction that was rolled back is no longer true.
            with named_errors(self._name):
                self._load_kinds()
            raise

    def _carry_out(self, operation: Operation) -> int:
        match operation:
            case Append(kind, plaintext):
                return self._append(kind, plaintext)
            case Put(kind, key, plaintext):
                return self._put(kind, key, plaintext)
            case Chain(kind, follow):
                row = self._kind(kind)
                last = self._last(kind, row)
                if row.tail is None and last > row.floor:
                    row.tail = self._open_record(kind, last, self._sealed_record(row, last))
                return self._append(kind, follow(last + 1, row.tail), chained=True)
            case Insert(kind, key, plaintext, unless):
                if self.get(kind, key) is not None or (
                    unless is not None and self.get(unless, key) is not None
                ):
                    return 0
                return self._put(kind, key, plaintext)
            case Delete(kind, key):
                row = self._kind(kind)
                label = self._sealer.label(self._places.key(kind, key))
                statement = "DELETE FROM item WHERE kind = ? AND label = ?"
                return self._db.execute(statement, (row.identifier, label)).rowcount
            case KeepNewest(kind, count):
                row = self._kind(kind)
                statement = (
                    "DELETE FROM item WHERE kind = ?1 AND id <= (SELECT id FROM item WHERE kind = ?1"
                    " ORDER BY id DESC LIMIT 1 OFFSET ?2)"
                )
                return self._db.execute(statement, (row.identifier, count)).rowcount
            case Trim(kind, through):
                return self._trim(kind, through)

    def _append(self, kind: str, plaintext: bytes, *, chained: bool = False) -> int:
        row = self._kind(kind)
        number = self._last(kind, row) + 1
        sealed = self._sealer.seal(self._places.record(kind, number), plaintext)
        self._db.execute("INSERT INTO record VALUES (?, ?, ?)", (row.identifier, number, sealed))
        row.last, row.tail = number, plaintext if chained else None
        return number

    def _put(self, kind: str, key: str, plaintext: bytes) -> int:
        row = self._kind(kind)
        label = self._sealer.label(self._places.key(kind, key))
        name = key.encode()
        sealed = self._sealer.seal(
            self._places.item(kind, label), struct.pack(">H", len(name)) + name + plaintext
        )
        self._db.execute(
            "INSERT INTO item (kind, label, sealed) VALUES (?, ?, ?)"
            " ON CONFLICT (kind, label) DO UPDATE SET sealed = excluded.sealed",
            (row.identifier, label, sealed),
        )
        return 1

    def _trim(self, kind: str, through: int) -> int:
        row = self._kind(kind)
        through = min(through, self._last(kind, row))
        if through <= row.floor:
            return 0
        statement = "DELETE FROM record WHERE kind = ? AND number <= ?"
        gone = self._db.execute(statement, (row.identifier, through)).rowcount
        row.floor = through
        self._write_kind(kind, row)
        return gone

    def _kind(self, kind: str) -> _Kind:
        row = self._kinds.get(kind)
        if row is None:
            identifier = self._number("SELECT coalesce(max(id), 0) + 1 FROM kind")
            row = self._kinds[kind] = _Kind(identifier, floor=0, last=0)
            self._write_kind(kind, row)
        return row

    def _write_kind(self, kind: str, row: _Kind) -> None:
        plaintext = row.floor.to_bytes(8, "big") + kind.encode()
        sealed = self._sealer.seal(self._places.kind_row(row.identifier), plaintext)
        self._db.execute("INSERT OR REPLACE INTO kind VALUES (?, ?)", (row.identifier, sealed))

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
        return found

    def span(self, kind: str) -> tuple[int, int]:
        """Return (number of the oldest record, of the newest); (n + 1, n) if there is none."""
        row = self._kinds.get(kind)
        if row is None:
            return 1, 0
        with named_errors(self._name):
            return row.floor + 1, self._last(kind, row)

    def kinds(self) -> list[str]:
        """Return the names of all kinds ever used."""
        return list(self._kinds)

    def damage(self) -> list[StoreCorrupt]:
        """Read everything and return what is wrong, one error a place; an empty list: all is well."""
        faults: list[StoreCorrupt] = []
        try:
            with named_errors(self._name):
                for (words,) in self._db.execute("PRAGMA quick_check(20)"):
                    if words != "ok":
                        faults.append(StoreCorrupt(f"partition {self._name}: {words}"))
        except StoreCorrupt as fault:
            faults.append(fault)
        for kind, row in self._kinds.items():
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
                                faults.append(fault)
                except StoreCorrupt as fault:  # the page itself: what lies behind it cannot be reached
                    faults.append(fault)
        return faults

    def close(self) -> None:
        """Write the log back into the file and close it."""
        with named_errors(self._name):
            self._db.close()

    # --- parts ---------------------------------------------------------------------------------------------

    def _open_record(self, kind: str, number: int, sealed: bytes | None) -> bytes:
        try:
            return self._sealer.open(self._places.record(kind, number), sealed or b"")
        except StoreCorrupt as error:
            raise StoreCorrupt(f"partition {self._name}: {kind} record {number}: {error}") from error

    def _open_item(self, kind: str, label: bytes, sealed: bytes) -> tuple[str, bytes]:
        try:
            plaintext = self._sealer.open(self._places.item(kind, label), sealed)
        except StoreCorrupt as error:
            raise StoreCorrupt(f"partition {self._name}: {kind} item {label.hex()}: {error}") from error
        end = 2 + int.from_bytes(plaintext[:2], "big")
        return plaintext[2:end].decode(), plaintext[end:]

    def _sealed_record(self, row: _Kind, number: int) -> bytes | None:
        statement = "SELECT sealed FROM record WHERE kind = ? AND number = ?"
        found = self._db.execute(statement, (row.identifier, number)).fetchone()
        return None if found is None else bytes(found[0])

    def _last(self, kind: str, row: _Kind) -> int:
        if row.last is None:
            statement = "SELECT max(number) FROM record WHERE kind = ?"
            last = self._db.execute(statement, (row.identifier,)).fetchone()[0]
            row.last = row.floor if last is None else int(last)
            if row.last < row.floor:
                raise StoreCorrupt(f"partition {self._name}: {kind} holds a record that was trimmed")
        return row.last

    def _load_kinds(self) -> None:
        kinds: dict[str, _Kind] = {}
        for identifier, sealed in self._db.execute("SELECT id, sealed FROM kind").fetchall():
            try:
                plaintext = self._sealer.open(self._places.kind_row(identifier), sealed)
            except StoreCorrupt as error:
                raise StoreCorrupt(f"partition {self._name}: name of kind {identifier}: {error}") from error
            kinds[plaintext[8:].decode()] = _Kind(identifier, int.from_bytes(plaintext[:8], "big"))
        # A kind whose name is gone must not silently begin again at record 1: a ledger would repeat itself.
        known = {row.identifier for row in kinds.values()}
        for table in ("record", "item"):
            used = 0
            statement = f"SELECT kind FROM {table} WHERE kind > ? ORDER BY kind LIMIT 1"  # noqa: S608 - our own names
            while found := self._db.execute(statement, (used,)).fetchone():
                used = int(found[0])
                if used not in known:
                    raise StoreCorrupt(f"partition {self._name}: the name of kind {used} is missing")
        self._kinds = kinds

    def _salt_of(self, opening: int) -> bytes | None:
        found = self._db.execute("SELECT salt FROM opening WHERE number = ?", (opening,)).fetchone()
        return None if found is None else bytes(found[0])

    def _number(self, statement: str) -> int:
        return int(self._db.execute(statement).fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
