"""Small records that outlive a process: one file each, never half written."""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from tools.counterparts.server import replacing


class KeptFiles(MutableMapping[str, bytes]):
    """Files of a folder by their names; names are letters, digits and dashes."""

    def __init__(self, folder: Path) -> None:
        """Keep files in `folder`, which is made with the first of them."""
        self._folder = folder

    def __getitem__(self, name: str) -> bytes:
        """Return what was kept; KeyError if nothing."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            raise KeyError(name) from None

    def __setitem__(self, name: str, data: bytes) -> None:
        """Keep `data`; durable on return, readable by us alone."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with replacing(self._folder / name) as path:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "wb") as whole:
                whole.write(data)
                whole.flush()
                os.fsync(whole.fileno())
        folder = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def __delitem__(self, name: str) -> None:
        """Forget; KeyError if nothing is kept."""
        try:
            (self._folder / name).unlink()
        except FileNotFoundError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        """Yield the names, sorted."""
        return iter(sorted(path.name for path in self._folder.glob("[!.]*")))

    def __len__(self) -> int:
        """Return how many there are."""
        return sum(1 for _ in self)
