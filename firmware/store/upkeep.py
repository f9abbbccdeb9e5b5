"""Care of a partition's file: change of key, deleted bytes, size, what can be read. One thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from firmware.errors import StoreCorrupt
from firmware.store.file import SealedFile
from firmware.store.schema import PAGE_BYTES, named_errors, number_of, transaction
from firmware.store.seal import TALLY_MODULUS, Sealer, WrappedKey

_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a partition is."""

    used_bytes: int
    """Pages in use; what was deleted counts as free."""
    file_bytes: int
    """What the file takes on the disk, without its write-ahead log."""
    quota_bytes: int
    """The file grows to this size at most."""

    @property
    def percent(self) -> float:
        """Return the part of the quota that is used."""
        return 100 * self.used_bytes / self.quota_bytes


@dataclass(frozen=True, slots=True)
class Readable:
    """What of one kind can still be read."""

    kind: str
    rows: int
    """Items and records that open."""
    faults: tuple[str, ...]


class KeptFile(SealedFile):
    """One partition's file. Every method runs in the one thread that opened it."""

    def change_key(self, key: bytes, salt: bytes, wrapped: WrappedKey) -> int:
        """Seal every row anew under another partition key, in one transaction; return how many.

        Labels are made anew too. After it no byte of the file opens with the key of before. It needs as much
        room again, for the write-ahead log, until it is done.

        Raises:
            StoreCorrupt: a row is damaged; nothing was changed.
            StoreUnavailable: no room; nothing was changed.
        """
        old = self._sealer
        try:
            with named_errors(self._name):
                opening = number_of(self._db, "SELECT coalesce(max(number), 0) + 1 FROM opening")
                new = Sealer(key, opening, salt, self._salt_of)
                with transaction(self._db):
                    self._tally = 0
                    rows = self._reseal_kinds(new) + self._reseal_records(new) + self._reseal_items(new)
                    self._db.execute("DELETE FROM opening")
                    self._db.execute("INSERT INTO opening VALUES (?, ?)", (opening, salt))
                    self._sealer = new
                    self._tally %= TALLY_MODULUS
                    self._write_state()
                    self._replace_header((wrapped,))
                self._truncate_log()
        except BaseException:
            with named_errors(self._name):
                # After a commit that only could not be tidied up, the new key is the one.
                self._sealer = old if self.wrapped_keys() != [wrapped] else self._sealer
                self._load()
            raise
        return rows

    def key(self) -> bytes:
        """Return the partition key in force."""
        return self._sealer.key

    def replace_header(self, wrapped: Sequence[WrappedKey]) -> None:
        """Keep the same partition key in other wrapped forms, in one transaction."""
        with named_errors(self._name):
            with transaction(self._db):
                self._replace_header(wrapped)
            self._truncate_log()

    def compact(self) -> None:
        """Give freed pages back and leave no deleted byte in file or log.

        SQLite rewrites the file through its log; a kill at any point leaves the old content or the new.
        """
        with named_errors(self._name):
            self._db.execute("PRAGMA temp_store=FILE")  # a copy of the file in memory would not be small
            try:
                self._db.execute("VACUUM")
            finally:
                self._db.execute("PRAGMA temp_store=MEMORY")
            self._truncate_log()

    def usage(self) -> Usage:
        """Return how full the partition is."""
        with named_errors(self._name):
            pages = number_of(self._db, "PRAGMA page_count")
            free = number_of(self._db, "PRAGMA freelist_count")
            most = number_of(self._db, "PRAGMA max_page_count")
        return Usage((pages - free) * PAGE_BYTES, pages * PAGE_BYTES, most * PAGE_BYTES)

    def readable(self) -> list[Readable]:
        """Try to open every row, kind by kind."""
        found = []
        for kind, row in self._kinds.items():
            seen = list(self._examined(kind, row))
            faults = tuple(str(fault) for fault in seen if fault is not None)
            found.append(Readable(kind, len(seen) - len(faults), faults))
        return found

    def _reseal_kinds(self, new: Sealer) -> int:
        for kind, row in self._kinds.items():
            plaintext = row.floor.to_bytes(8, "big") + kind.encode()
            row.sealed = new.seal(self._places.kind_row(row.identifier), plaintext)
            self._db.execute("UPDATE kind SET sealed = ? WHERE id = ?", (row.sealed, row.identifier))
            self._tally += new.tally((row.sealed,))
        return len(self._kinds)

    def _reseal_records(self, new: Sealer) -> int:
        done = 0
        select = (
            "SELECT number, sealed, ends FROM record WHERE kind = ? AND number > ? ORDER BY number LIMIT ?"
        )
        update = "UPDATE record SET sealed = ? WHERE kind = ? AND number = ?"
        for kind, row in self._kinds.items():
            after, last = row.floor, self._last(kind, row)
            while part := self._db.execute(select, (row.identifier, after, _AT_ONCE)).fetchall():
                for run in part:
                    records = self._split(run)
                    if records[0][0] != after + 1:
                        raise StoreCorrupt(f"partition {self._name}: {kind} record {after + 1} is missing")
                    plaintexts = [self._open_record(kind, *record) for record in records]
                    places = self._places.records(kind, after + 1, len(records))
                    sealed = new.seal_all(places, plaintexts)  # as long as before: the ends stay
                    self._db.execute(update, (b"".join(sealed), row.identifier, after + 1))
                    self._tally += new.tally(sealed)
                    after += len(records)
            if after != last:
                raise StoreCorrupt(f"partition {self._name}: {kind} record {after + 1} is missing")
            done += last - row.floor
        return done

    def _reseal_items(self, new: Sealer) -> int:
        done = after = 0
        kinds = {row.identifier: kind for kind, row in self._kinds.items()}
        select = "SELECT id, kind, label, sealed FROM item WHERE id > ? ORDER BY id LIMIT ?"
        while part := self._db.execute(select, (after, _AT_ONCE)).fetchall():
            for after, identifier, label, sealed in part:
                kind = kinds.get(identifier)
                if kind is None:
                    raise StoreCorrupt(f"partition {self._name}: the name of kind {identifier} is missing")
                key, plaintext = self._open_item(kind, label, sealed)
                label_again = new.label(self._places.key(kind, key))
                name = key.encode()
                again = new.seal(
                    self._places.item(kind, label_again), len(name).to_bytes(2, "big") + name + plaintext
                )
                update = "UPDATE item SET label = ?, sealed = ? WHERE id = ?"
                self._db.execute(update, (label_again, again, after))
                self._tally += new.tally((again,))
            done += len(part)
        return done

    def _replace_header(self, wrapped: Sequence[WrappedKey]) -> None:
        self._db.execute("DELETE FROM header")
        for form in wrapped:
            self._write_header(form)

    def _truncate_log(self) -> None:
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
