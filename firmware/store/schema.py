"""The form of a partition's file: tables, versions, how it is opened, what its errors mean. SQLite only."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

from firmware.errors import StoreCorrupt, StoreUnavailable

SCHEMA_VERSION: Final = 3
APPLICATION_ID: Final = 0x534D4757  # "SMGW"
PAGE_BYTES: Final = 4096
_KEPT_STATEMENTS: Final = 20
"""Prepared ones that a connection keeps: about as many as a running partition uses. What an opening alone
needs goes when others come; kept, the statements of three files were a quarter of a gateway's memory."""
TABLES: Final = ("opening", "kind", "item", "record", "state")
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
_TO_1: Final = """
CREATE TABLE header (id INTEGER PRIMARY KEY CHECK (id = 1), curve TEXT NOT NULL, store BLOB NOT NULL,
                     ephemeral BLOB NOT NULL, wrapped BLOB NOT NULL) STRICT;
CREATE TABLE opening (number INTEGER PRIMARY KEY, salt BLOB NOT NULL) STRICT;
CREATE TABLE kind (id INTEGER PRIMARY KEY, sealed BLOB NOT NULL) STRICT;
CREATE TABLE item (id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, label BLOB NOT NULL, sealed BLOB NOT NULL,
                   UNIQUE (kind, label)) STRICT;
CREATE TABLE record (kind INTEGER NOT NULL, number INTEGER NOT NULL, sealed BLOB NOT NULL,
                     PRIMARY KEY (kind, number)) STRICT, WITHOUT ROWID
"""
# 2: the partition key may lie there in more than one wrapped form (8 is KeySlot.STORE); epoch and tally.
_TO_2: Final = """
ALTER TABLE header RENAME TO header_1;
CREATE TABLE header (slot INTEGER PRIMARY KEY, curve TEXT NOT NULL, store BLOB NOT NULL,
                     ephemeral BLOB NOT NULL, wrapped BLOB NOT NULL) STRICT;
INSERT INTO header SELECT 8, curve, store, ephemeral, wrapped FROM header_1;
DROP TABLE header_1;
CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), sealed BLOB NOT NULL) STRICT
"""
# 3: records that were written together share a row; `ends` says where each of them ends (store/runs.py).
_TO_3: Final = "ALTER TABLE record ADD COLUMN ends BLOB"
_MIGRATIONS: Final = {0: _TO_1, 1: _TO_2, 2: _TO_3}
"""Version -> statements that lead to the next one; all that are due run in one transaction."""


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
    except UnicodeDecodeError as error:  # sqlite3 makes an error text of the bytes of a damaged schema
        raise StoreCorrupt(f"partition {name}: the file is damaged (a name cannot be read)") from error
    except OSError as error:
        raise StoreUnavailable(f"partition {name}: {error.strerror}") from error


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit what the block did, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def connect(path: Path, name: str, quota_bytes: int | None) -> sqlite3.Connection:
    """Open or create a partition's file and bring its schema up to date.

    Raises:
        StoreCorrupt: not a partition's file, or damaged.
        StoreUnavailable: not readable and writable now, or made by a newer firmware.
    """
    with named_errors(name):
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            sync_folder(path.parent)
        db = sqlite3.connect(path, isolation_level=None, timeout=0.0, cached_statements=_KEPT_STATEMENTS)
    try:
        with named_errors(name):
            _prepare(db, name, quota_bytes)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, name: str, quota_bytes: int | None) -> None:
    for pragma in (
        "locking_mode=EXCLUSIVE",  # a second process is refused, and no shared-memory file is needed
        "trusted_schema=OFF",
        "cell_size_check=ON",
        "cache_size=-512",
        "temp_store=MEMORY",
        "synchronous=FULL",
        "secure_delete=ON",  # what is deleted is overwritten, not only unlinked
    ):
        db.execute(f"PRAGMA {pragma}")
    version = number_of(db, "PRAGMA user_version")
    if version > SCHEMA_VERSION:
        raise StoreUnavailable(
            f"partition {name} has schema {version}, this firmware knows {SCHEMA_VERSION};"
            " a newer firmware can open it, or a backup of before that one"
        )
    if version and number_of(db, "PRAGMA application_id") != APPLICATION_ID:
        raise StoreCorrupt(f"partition {name}: the file is not a partition")
    if db.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
        raise StoreUnavailable(f"partition {name}: the file system bears no write-ahead log")
    if quota_bytes is not None:
        db.execute(f"PRAGMA max_page_count={max(quota_bytes // PAGE_BYTES, 1)}")
    if version == SCHEMA_VERSION:
        _require_own_form(db, name)
        return
    with transaction(db):
        _bring_up_to_date(db, version)
        _require_own_form(db, name)
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def _bring_up_to_date(db: sqlite3.Connection, version: int) -> None:
    for step in range(version, SCHEMA_VERSION):
        for statement in _MIGRATIONS[step].split(";"):
            db.execute(statement)


def _require_own_form(db: sqlite3.Connection, name: str) -> None:
    """Raise StoreCorrupt if there are tables, indexes, views or triggers of somebody else's.

    They lie outside the seals: a trigger alone could keep what a wiping or a change of keys deletes.
    """
    if _form_of(db) != _own_form():
        raise StoreCorrupt(f"partition {name}: the file is damaged (other tables or triggers than ours)")


@lru_cache(maxsize=1)
def _own_form() -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        _bring_up_to_date(fresh, 0)
        return _form_of(fresh)


def _form_of(db: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """Return kind, name and statement of all that a file consists of, however SQLite spaces and quotes."""
    rows = db.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master")
    return sorted(
        (text(kind), text(named), "".join(text(sql).split()).replace('"', "")) for kind, named, sql in rows
    )


def number_of(db: sqlite3.Connection, statement: str, *arguments: object) -> int:
    """Return the one number that a statement yields; StoreCorrupt if damage made it something else."""
    return whole(db.execute(statement, arguments).fetchone()[0])


def whole(value: object) -> int:
    """Return a column that holds a number, not negative; in a damaged file anything may stand there."""
    if not isinstance(value, int) or value < 0:
        raise StoreCorrupt("a column holds something else than a number")
    return value


def blob(value: object) -> bytes:
    """Return a column that holds bytes; in a damaged file anything may stand there."""
    if not isinstance(value, bytes):
        raise StoreCorrupt("a column holds something else than bytes")
    return value


def text(value: object) -> str:
    """Return a column that holds a text; in a damaged file anything may stand there."""
    if not isinstance(value, str):
        raise StoreCorrupt("a column holds something else than a text")
    return value


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
