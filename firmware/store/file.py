"""Writing a partition's file: operations, one transaction per batch, tally and epoch. One thread."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from firmware.store.operations import (
    Append,
    Chain,
    Delete,
    Epoch,
    Forget,
    Insert,
    KeepNewest,
    Operation,
    Put,
    Sift,
    Trim,
)
from firmware.store.rows import Kind, SealedRows
from firmware.store.runs import length, pack
from firmware.store.schema import named_errors, number_of, transaction
from firmware.store.seal import TALLY_MODULUS


class SealedFile(SealedRows):
    """One partition's file. Every method runs in the one thread that opened it."""

    def commit(self, batch: Sequence[Sequence[Operation]]) -> list[list[int]]:
        """Carry out all operations in one durable transaction, or none of them.

        Raises:
            StoreCorrupt, StoreUnavailable: nothing was changed.
        """
        try:
            with named_errors(self._name), transaction(self._db):
                results = [self._carry_out_all(operations) for operations in batch]
                self._tally %= TALLY_MODULUS
                self._write_state()
                return results
        except BaseException:
            # What was learned in the transaction that was rolled back is no longer true.
            with named_errors(self._name):
                self._load()
            raise

    def _carry_out_all(self, operations: Sequence[Operation]) -> list[int]:
        """Carry out one caller's operations; records that follow each other in one list go in together."""
        results: list[int] = []
        run: list[bytes] = []
        kind = ""
        for operation in operations:
            if type(operation) is Append and (operation.kind == kind or not run):
                kind = operation.kind
                run.append(operation.plaintext)
                continue
            if run:
                results += self._append_all(kind, run)
                run = []
            results.append(self._carry_out(operation))
        if run:
            results += self._append_all(kind, run)
        return results

    def _append_all(self, kind: str, plaintexts: list[bytes]) -> Sequence[int]:
        row = self._kind(kind)
        first = self._last(kind, row) + 1
        numbers = range(first, first + len(plaintexts))
        sealed = self._sealer.seal_all(self._places.records(kind, first, len(plaintexts)), plaintexts)
        self._insert(row, first, sealed)
        self._tally += self._sealer.tally(sealed)
        row.last, row.tail = numbers[-1], None
        return numbers

    def _insert(self, row: Kind, first: int, sealed: Sequence[bytes]) -> None:
        """Put sealed records into rows; the tally is the caller's matter."""
        identifier = row.identifier
        self._db.executemany(
            "INSERT INTO record VALUES (?, ?, ?, ?)", [(identifier, *run) for run in pack(first, sealed)]
        )

    def _carry_out(self, operation: Operation) -> int:
        match operation:
            case Append(kind, plaintext):
                return self._append_all(kind, [plaintext])[0]
            case Put(kind, key, plaintext):
                return self._put(kind, key, plaintext)
            case Chain(kind, follow):
                row = self._kind(kind)
                last = self._last(kind, row)
                if row.tail is None and last > row.floor:
                    run = dict(self._run_of(row, last))
                    row.tail = self._open_record(kind, last, run.get(last))
                plaintext = follow(last + 1, row.tail)
                number = self._append_all(kind, [plaintext])[0]
                row.tail = plaintext
                return number
            case Insert(kind, key, plaintext, unless):
                if self.get(kind, key) is not None or (
                    unless is not None and self.get(unless, key) is not None
                ):
                    return 0
                return self._put(kind, key, plaintext)
            case Delete(kind, key):
                row = self._kind(kind)
                label = self._sealer.label(self._places.key(kind, key))
                return self._remove("item", "kind = ? AND label = ?", row.identifier, label)
            case KeepNewest(kind, count):
                row = self._kind(kind)
                older = (
                    "kind = ?1 AND id <= (SELECT id FROM item WHERE kind = ?1"
                    " ORDER BY id DESC LIMIT 1 OFFSET ?2)"
                )
                return self._remove("item", older, row.identifier, count)
            case Trim(kind, through):
                return self._trim(kind, through)
            case Forget(kind):
                return self._forget(kind)
            case Sift(kind, keep):
                return self._sift(kind, keep)
            case Epoch(number):
                self._epoch = number
                return number

    def _put(self, kind: str, key: str, plaintext: bytes) -> int:
        row = self._kind(kind)
        label = self._sealer.label(self._places.key(kind, key))
        name = key.encode()
        sealed = self._sealer.seal(
            self._places.item(kind, label), struct.pack(">H", len(name)) + name + plaintext
        )
        statement = "SELECT id, sealed FROM item WHERE kind = ? AND label = ?"
        before = self._db.execute(statement, (row.identifier, label)).fetchone()
        if before is None:
            statement = "INSERT INTO item (kind, label, sealed) VALUES (?, ?, ?)"
            self._db.execute(statement, (row.identifier, label, sealed))
        else:
            self._db.execute("UPDATE item SET sealed = ? WHERE id = ?", (sealed, before[0]))
            self._tally -= self._sealer.tally((before[1],))
        self._tally += self._sealer.tally((sealed,))
        return 1

    def _trim(self, kind: str, through: int) -> int:
        row = self._kind(kind)
        through = min(through, self._last(kind, row))
        if through <= row.floor:
            return 0
        stays = [sealed for number, sealed in self._run_of(row, through) if number > through]
        gone = self._remove("record", "kind = ? AND number <= ?", row.identifier, through) - len(stays)
        if stays:  # the last row held more: they are sealed as before, in a row of their own
            self._insert(row, through + 1, stays)
            self._tally += self._sealer.tally(stays)
        row.floor = through
        self._write_kind(kind, row)
        return gone

    def _forget(self, kind: str) -> int:
        row = self._kinds.pop(kind, None)
        if row is None:
            return 0
        gone = sum(self._remove(table, "kind = ?", row.identifier) for table in ("record", "item"))
        return gone + self._remove("kind", "id = ?", row.identifier)

    def _sift(self, kind: str, keep: Callable[[bytes], bool]) -> int:
        row = self._kinds.get(kind)
        if row is None:
            return 0
        last = self._last(kind, row)
        kept = [plaintext for _, plaintext in self.records(kind, row.floor, -1) if keep(plaintext)]
        gone = last - row.floor - len(kept)
        if gone:
            self._trim(kind, last)
            if kept:
                self._append_all(kind, kept)
        return gone

    def _remove(self, table: str, which: str, *arguments: object) -> int:
        """Delete rows and take them out of the tally; return how many items or records were in them."""
        columns = "number, sealed, ends" if table == "record" else "1, sealed, NULL"
        statement = f"DELETE FROM {table} WHERE {which} RETURNING {columns}"  # noqa: S608 - our own names
        gone = self._db.execute(statement, arguments).fetchall()
        self._tally -= self._tally_of(gone)
        return sum(length(ends) for _, _, ends in gone)

    def _kind(self, kind: str) -> Kind:
        row = self._kinds.get(kind)
        if row is None:
            identifier = number_of(self._db, "SELECT coalesce(max(id), 0) + 1 FROM kind")
            row = self._kinds[kind] = Kind(identifier, floor=0, sealed=b"", last=0)
            self._write_kind(kind, row)
        return row

    def _write_kind(self, kind: str, row: Kind) -> None:
        plaintext = row.floor.to_bytes(8, "big") + kind.encode()
        if row.sealed:
            self._tally -= self._sealer.tally((row.sealed,))
        row.sealed = self._sealer.seal(self._places.kind_row(row.identifier), plaintext)
        self._tally += self._sealer.tally((row.sealed,))
        self._db.execute("INSERT OR REPLACE INTO kind VALUES (?, ?)", (row.identifier, row.sealed))
