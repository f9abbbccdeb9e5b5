"""A folder that cannot be written, for root and for a plain user, with the right to mount and without it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

ReadOnly = Callable[[Path], AbstractContextManager[Sequence[str]]]
"""Makes a folder read-only for whatever is run within the command that it yields."""
_BOUND = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


@contextmanager
def by_modes(folder: Path) -> Iterator[Sequence[str]]:
    """By the modes of files, which bind root as well once it has given up the right to override them."""
    within = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    paths = [folder, *folder.iterdir()]
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(modes[path] & ~0o222)
    try:
        yield demanded(folder, within, "root cannot give up its rights here (setpriv, CAP_SETPCAP)")
    finally:
        for path in paths:
            path.chmod(modes[path])


@contextmanager
def by_mount(folder: Path) -> Iterator[Sequence[str]]:
    """By a read-only mount in a namespace of its own, which is gone with whoever runs in it."""
    own = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--map-root-user", "--mount")
    yield demanded(folder, (*own, "sh", "-c", _BOUND, str(folder)), "no mounts in a namespace of one's own")


def demanded(folder: Path, within: Sequence[str], reason: str) -> Sequence[str]:
    """Return `within` if nothing run in it can write into `folder`; a named skip where it cannot be had."""
    code = "import pathlib, sys; pathlib.Path(sys.argv[1], 'tried').touch()"
    try:
        tried = subprocess.run(
            [*within, sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip(reason)
    if not any(word in tried.stderr for word in ("PermissionError", "Read-only file system")):
        (folder / "tried").unlink(missing_ok=True)
        pytest.skip(reason)
    return within
