"""The files of the stores as files: names, locks, and how a whole set is exchanged for another.

A new set is made ready in a folder beside the old one; renaming that folder is the moment from which the
new set counts. Whoever opens the stores after a kill finds the renamed folder and finishes the moves. The
old set is kept in a folder of its own. None of this gives a file authority: the seal inside it does, see
`firmware.store.anchor`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from firmware.store.partition import take_lock
from firmware.store.schema import sync_folder

PARTITIONS: Final = ("system", "consumer", "calibration")
_PART: Final = "restore.part"
_READY: Final = re.compile(r"restore\.ready-([0-9]{1,6})\Z")
_SUFFIXES: Final = ("", "-wal")


def path_of(folder: Path, name: str) -> Path:
    """Return the file of a partition."""
    return folder / f"{name}.db"


def is_used(path: Path) -> bool:
    """Whether there is anything in a partition's file."""
    return path.exists() and path.stat().st_size > 0


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process from the stores in `folder`.

    Raises:
        StoreUnavailable: a gateway, or another tool, has them open.
    """
    with ExitStack() as stack:
        for name in PARTITIONS:
            stack.callback(os.close, take_lock(path_of(folder, name), name))
        yield


def new_stage(folder: Path) -> Path:
    """Make an empty folder for a new set; what an earlier try left there is removed."""
    stage = folder / _PART
    if stage.exists():
        shutil.rmtree(stage)
    stage.mkdir(mode=0o700)
    return stage


def drop_stage(folder: Path) -> None:
    """Remove a new set that will not be used."""
    shutil.rmtree(folder / _PART, ignore_errors=True)


def commit_exchange(folder: Path) -> Path:
    """From here on the staged set counts; return where the old one will be kept. Needs `locked`."""
    stage = folder / _PART
    for name in PARTITIONS:
        _sync_file(path_of(stage, name))
    sync_folder(stage)
    number = 1 + max(
        (int(path.name.rpartition("-")[2]) for path in folder.glob("replaced-[0-9]*")), default=0
    )
    stage.rename(folder / f"restore.ready-{number}")
    sync_folder(folder)
    return folder / f"replaced-{number}"


def exchange_is_pending(folder: Path) -> bool:
    """Whether an exchange was committed and not finished."""
    return _ready(folder) is not None


def finish_exchange(folder: Path) -> None:
    """Move the old set away and the new one in, or what is left of it to do. Needs `locked`."""
    ready = _ready(folder)
    if ready is None:
        return
    path, number = ready
    kept = folder / f"replaced-{number}"
    kept.mkdir(mode=0o700, exist_ok=True)
    for name in PARTITIONS:
        new, old = path_of(path, name), path_of(folder, name)
        if not new.exists():
            continue  # moved in already
        for suffix in _SUFFIXES:  # the old log too, before the new file is there: it belongs to the old one
            piece = old.with_name(old.name + suffix)
            if piece.exists():
                piece.replace(kept / piece.name)
        sync_folder(kept)
        sync_folder(folder)
        new.replace(old)
        sync_folder(folder)
    shutil.rmtree(path)
    sync_folder(folder)


def _ready(folder: Path) -> tuple[Path, int] | None:
    for path in sorted(folder.glob("restore.ready-*")):
        if (found := _READY.match(path.name)) is not None:
            return path, int(found[1])
    return None


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
