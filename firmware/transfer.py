"""Backups of the stores and putting them back: one archive of sealed files, checked before it replaces any.

For tools, while no gateway runs on the folder. An archive is a tar file: `smgw-backup.json` (format,
gateway, schema, sizes, SHA-256), then the three partitions as they lie on the disk, so it is as sealed as
they are and of use only with the security module they were made with. Restoring is the one lawful
roll-back: the restored files are bound to the next epoch, and the logs in them say so.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Final

import msgspec

from firmware.clock.clock import Clock
from firmware.enforcement.dcnet.slot.ledger import mark_restored
from firmware.errors import FirmwareError, StoreCorrupt, StoreUnavailable
from firmware.log.entry import Event, Level, LogKind
from firmware.log.journal import Journal
from firmware.store.anchor import Anchor, counter_of
from firmware.store.exchange import (
    PARTITIONS,
    commit_exchange,
    drop_stage,
    finish_exchange,
    is_used,
    locked,
    new_stage,
    path_of,
)
from firmware.store.partition import Partition
from firmware.store.schema import SCHEMA_VERSION, named_errors, sync_folder
from firmware.store.stores import Stores
from firmware.store.upkeep import Readable
from hsm.api import SecurityModule

Progress = Callable[[str, int, int], None]
"""Told of each step: its name, how much is done, of how much."""
_FORMAT: Final = 1
_MANIFEST: Final = "smgw-backup.json"
_MAX_MANIFEST_BYTES: Final = 65_536
_MAX_MEMBER_BYTES: Final = 1 << 50
"""More than any disk of a gateway; only how far is skipped in a hostile archive."""
_PIECE: Final = 1 << 20
_PAGES: Final = 512


class BackupRefused(FirmwareError):
    """An archive is no backup of these stores, or damaged, or the place it should go to is taken."""


class Member(msgspec.Struct, frozen=True):
    """One partition in an archive."""

    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an archive says of itself. Nothing secret: all of it can be seen on the disk too."""

    format: int
    gateway: str
    schema: int
    partitions: dict[str, Member]


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did."""

    rows: int
    """Items and records that were opened and checked."""
    kept: Path | None
    """Where the files that were replaced lie; None: there were none."""


@dataclass(frozen=True, slots=True)
class Look:
    """What can be seen of one partition without changing anything."""

    name: str
    error: str
    """Why it cannot be opened, or the first damage; empty: all is well."""
    epoch: int
    kinds: tuple[Readable, ...]


# --- backup ------------------------------------------------------------------------------------------------


def backup(folder: Path, gateway: str, target: Path, progress: Progress) -> Manifest:
    """Write an archive of the stores in `folder` to `target`; needs no security module.

    Raises:
        BackupRefused: `target` exists, or there is nothing to back up.
        StoreUnavailable: a gateway runs on the folder, or the disk is full.
        StoreCorrupt: a file is damaged; no archive was made.
    """
    if target.exists():
        raise BackupRefused(f"{target} exists; a backup never overwrites: choose another name")
    if not folder.is_dir() or not all(is_used(path_of(folder, name)) for name in PARTITIONS):
        raise BackupRefused(f"{folder} holds no stores")
    part = target.with_name(target.name + ".part")
    with locked(folder), tempfile.TemporaryDirectory(prefix="smgw-backup-", dir=target.parent) as name:
        copies = Path(name)
        with named_errors("(all)"):
            finish_exchange(folder)
        members: dict[str, Member] = {}
        for partition in PARTITIONS:
            copy = path_of(copies, partition)
            with named_errors(partition):
                _copy(path_of(folder, partition), copy, partition, progress)
            with copy.open("rb") as file:
                members[partition] = Member(
                    copy.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
                )
        manifest = Manifest(_FORMAT, gateway.lower(), SCHEMA_VERSION, members)
        with named_errors("(all)"):
            _pack(part, manifest, copies, progress)
            if target.exists():
                raise BackupRefused(f"{target} exists; a backup never overwrites: choose another name")
            part.rename(target)
            sync_folder(target.parent)
    return manifest


def _copy(source: Path, copy: Path, name: str, progress: Progress) -> None:
    """Copy a database page by page, its write-ahead log included."""
    copy.touch(mode=0o600)
    with closing(sqlite3.connect(source, timeout=0.0)) as db, closing(sqlite3.connect(copy)) as into:
        db.backup(into, pages=_PAGES, progress=lambda _, left, of: progress(f"copying {name}", of - left, of))
        if into.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise StoreCorrupt(f"partition {name}: the file is damaged; no backup was made")


def _pack(part: Path, manifest: Manifest, copies: Path, progress: Progress) -> None:
    part.unlink(missing_ok=True)  # of a backup that was killed, or a link of somebody else's: never followed
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT) as archive:
                text = msgspec.json.format(msgspec.json.encode(manifest))
                entry = tarfile.TarInfo(_MANIFEST)
                entry.size, entry.mode = len(text), 0o600
                archive.addfile(entry, BytesIO(text))
                for done, name in enumerate(PARTITIONS):
                    progress("packing", done, len(PARTITIONS))
                    entry = tarfile.TarInfo(f"{name}.db")
                    entry.size, entry.mode = path_of(copies, name).stat().st_size, 0o600
                    with path_of(copies, name).open("rb") as content:
                        archive.addfile(entry, content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    progress("packing", len(PARTITIONS), len(PARTITIONS))


# --- restore -----------------------------------------------------------------------------------------------


async def restore(
    folder: Path,
    module: SecurityModule,
    clock: Clock,
    gateway: str,
    source: Path,
    progress: Progress,
    *,
    replace: bool = False,
) -> Restored:
    """Check an archive to the last record, then put it in the place of the stores in `folder`.

    A kill at any point leaves the old stores or the new ones; the next opening finishes what was begun. The
    old files are kept beside the new.

    Args:
        folder: of the stores; made if it is missing.
        module: the one the stores were made with.
        clock: stamps the log entries.
        gateway: must be the one that the archive names.
        source: the archive.
        progress: told of each step.
        replace: stores that are in the folder are replaced; else they are a reason to refuse.

    Raises:
        BackupRefused: no archive of this gateway, damaged, or there are stores and `replace` is not given.
        StoreUnavailable: a gateway runs on the folder, another security module, a full disk.
        StoreCorrupt: a record of the archive is damaged, or its parts are not of one time.
        HsmError: the module failed.
    """
    _make_folder(folder)
    with locked(folder):
        with named_errors("(all)"):
            finish_exchange(folder)
        taken = any(is_used(path_of(folder, name)) for name in PARTITIONS)
        if taken and not replace:
            raise BackupRefused(f"{folder} holds stores; --replace puts the backup in their place")
        with named_errors("(all)"):
            stage = new_stage(folder)
        try:
            with named_errors("(all)"):
                unpack(source, gateway, stage, progress)
            counter, rows = await _make_ready(stage, module, clock, progress)
            with named_errors("(all)"):
                kept = commit_exchange(folder)
        finally:
            drop_stage(folder)  # moved away, if all went well
        with named_errors("(all)"):
            finish_exchange(folder)
        if counter is not None:
            await Anchor(module, ()).complete(counter)  # the replaced files are older from here on
    return Restored(rows, kept if taken else None)


def _make_folder(folder: Path) -> None:
    with named_errors("(all)"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


async def keep_as_they_are(folder: Path, module: SecurityModule, clock: Clock) -> None:
    """Take the files in `folder` for good although the module's counter speaks against them; logged.

    With no files at all, new ones are begun.

    Raises:
        StoreUnavailable, StoreCorrupt, HsmError: as `Stores.open`; also if there is damage.
    """
    async with await Stores.open(folder, module, accept=True) as stores:
        if faults := stores.faults():
            raise faults[0]
        await mark_restored(stores.consumer, clock.now_utc())
        await _tell(stores.partitions, clock, "as-they-are")


async def look(folder: Path, module: SecurityModule, progress: Progress) -> tuple[int | None, list[Look]]:
    """Open copies of the files and say what of them can be read, kind by kind, without changing them.

    Returns:
        The module's counter (None: it has none), and one look a partition.

    Raises:
        StoreUnavailable: a gateway runs on the folder, or there is no room for copies.
        HsmError: the module could not be asked.
    """
    found: list[Look] = []
    with locked(folder), tempfile.TemporaryDirectory(prefix="smgw-look-") as name:
        for done, partition in enumerate(PARTITIONS):
            progress("looking", done, len(PARTITIONS))
            copy = path_of(Path(name), partition)
            try:
                with named_errors(partition):
                    for suffix in ("", "-wal"):
                        piece = path_of(folder, partition).with_name(f"{partition}.db{suffix}")
                        if piece.exists() or not suffix:
                            shutil.copyfile(piece, copy.with_name(copy.name + suffix))
                async with await Partition.open(copy, partition, module, salvage=True) as opened:
                    epoch, kinds = opened.epoch, tuple(await opened.readable())
                    found.append(Look(partition, str(opened.fault or ""), epoch, kinds))
            except (StoreCorrupt, StoreUnavailable) as error:
                found.append(Look(partition, str(error), 0, ()))
        progress("looking", len(PARTITIONS), len(PARTITIONS))
    return await counter_of(module), found


def unpack(source: Path, gateway: str, stage: Path, progress: Progress) -> Manifest:
    """Write the partitions of an archive into `stage`, each compared with what the archive says of it.

    Raises:
        BackupRefused: not an archive of `gateway`, or damaged.
        OSError: the disk.
    """
    try:
        _require_plain_headers(source)
        with tarfile.open(source, mode="r|") as archive:
            first = archive.next()
            content = None if first is None or first.name != _MANIFEST else archive.extractfile(first)
            if content is None:
                raise BackupRefused(f"{source} is no backup of smgw")
            manifest = msgspec.json.decode(content.read(_MAX_MANIFEST_BYTES), type=Manifest)
            _fits(manifest, gateway)
            for done, name in enumerate(PARTITIONS):
                progress("unpacking", done, len(PARTITIONS))
                entry = archive.next()
                content = None if entry is None or entry.name != f"{name}.db" else archive.extractfile(entry)
                if content is None:
                    raise BackupRefused(f"{source}: partition {name} is missing")
                _write(content, path_of(stage, name), name, manifest.partitions[name])
            progress("unpacking", len(PARTITIONS), len(PARTITIONS))
    except (tarfile.TarError, msgspec.DecodeError, UnicodeDecodeError, EOFError) as error:
        raise BackupRefused(f"{source} is no backup, or damaged") from error
    return manifest


def _require_plain_headers(source: Path) -> None:
    """Raise BackupRefused unless the archive's members are plain files, as `_pack` writes them.

    Extended headers, sparse files and links are kept from the library: a hostile one makes it take memory
    without a limit, raise whatever it likes, or search for hours (older versions of Python).
    """
    with source.open("rb") as file:
        for _ in range(1 + len(PARTITIONS)):
            header = file.read(tarfile.BLOCKSIZE)
            if header == bytes(tarfile.BLOCKSIZE):
                return  # the end
            size = _size_in(header[124:136])
            if header[156:157] != tarfile.REGTYPE or size is None:
                raise BackupRefused(f"{source} is no backup of smgw, or damaged")
            file.seek(-(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, os.SEEK_CUR)


def _size_in(field: bytes) -> int | None:
    """Return the size that a header's field tells: octal, or base 256 above 8 GiB; None if it tells none."""
    if field[:1] == b"\x80":
        return min(int.from_bytes(field[1:], "big"), _MAX_MEMBER_BYTES)
    digits = field.rstrip(b" \0")
    return int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") else None


def _fits(manifest: Manifest, gateway: str) -> None:
    if manifest.format != _FORMAT:
        raise BackupRefused(f"the backup has format {manifest.format}, this firmware knows {_FORMAT}")
    if manifest.gateway != gateway.lower():
        raise BackupRefused(f"the backup is of gateway {manifest.gateway}, this is {gateway.lower()}")
    if manifest.schema > SCHEMA_VERSION:
        raise BackupRefused(f"the backup has schema {manifest.schema}, this firmware knows {SCHEMA_VERSION}")
    if set(manifest.partitions) != set(PARTITIONS):
        raise BackupRefused("the backup does not hold the three partitions")


def _write(content: IO[bytes], path: Path, name: str, member: Member) -> None:
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while piece := content.read(_PIECE):
            digest.update(piece)
            size += len(piece)
            if size > member.size_bytes:
                break
            file.write(piece)
    if (size, digest.hexdigest()) != (member.size_bytes, member.sha256):
        raise BackupRefused(f"partition {name} of the backup is damaged")


async def _make_ready(
    stage: Path, module: SecurityModule, clock: Clock, progress: Progress
) -> tuple[int | None, int]:
    """Check every record and log of the staged files, tell it in the logs, bind them to the next epoch."""
    counter = await counter_of(module)
    rows = 0
    async with AsyncExitStack() as stack:
        opened = []
        for done, name in enumerate(PARTITIONS):
            progress("checking", done, len(PARTITIONS))
            partition = await Partition.open(path_of(stage, name), name, module)
            opened.append(await stack.enter_async_context(partition))
            if faults := await partition.damage():
                raise StoreCorrupt(f"the backup is damaged: {faults[0]}")
            rows += sum(kind.rows for kind in await partition.readable())
        epochs = [partition.epoch for partition in opened]
        if max(epochs) - min(epochs) > 1:
            raise StoreCorrupt(f"the parts of the backup are not of one time: epochs {epochs}")
        for journal in await _journals(opened, clock):
            await journal.verify()
        progress("checking", len(PARTITIONS), len(PARTITIONS))
        await mark_restored(opened[PARTITIONS.index("consumer")], clock.now_utc())
        await _tell(opened, clock, "backup", epoch=str(max(epochs)), counter=str(counter))
        if counter is not None:
            await Anchor(module, opened).prepare(counter)
    return counter, rows


async def _journals(partitions: Sequence[Partition], clock: Clock) -> list[Journal]:
    system, consumer, calibration = partitions
    journals = [
        Journal(system, LogKind.SYSTEM, clock),
        Journal(calibration, LogKind.CALIBRATION, clock),
    ]
    prefix = "log/consumer/"
    for kind in await consumer.kinds():
        if kind.startswith(prefix):
            journals.append(Journal(consumer, LogKind.CONSUMER, clock, consumer=kind.removeprefix(prefix)))
    return journals


async def _tell(
    partitions: Sequence[Partition], clock: Clock, how: str, *, epoch: str = "", counter: str = ""
) -> None:
    """Everybody whose data went back in time reads it in the own log."""
    for journal in await _journals(partitions, clock):
        await journal.write(
            Event.STORE_RESTORED,
            level=Level.WARNING,
            sub_event=how,
            subject="stores",
            user="operator",
            epoch=epoch,
            counter=counter,
        )
