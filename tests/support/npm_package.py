"""A package of the npm registry as a folder, fetched once and checked: a program of others, no dependency.

It is asked for by name and version through npm itself, as the machine is set up; what comes must be
the very file that was looked at. Its dependencies are not installed and none of its scripts runs.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any, Final

import pytest

_ROOT: Final = Path(__file__).resolve().parents[2]
_FETCH_S: Final = 120.0
_REFUSED_S: Final = 1800.0


def fetched(name: str, version: str, sha512: str) -> Path:
    """The package's folder; skips the test where there is no Node.js, or npm does not deliver.

    Args:
        name, version: of the package.
        sha512: of its archive, base64, as npm itself writes an integrity.
    """
    if not all(shutil.which(tool) for tool in ("node", "npm")):
        pytest.skip("no Node.js with npm here")
    folder = Path(os.environ.get("SMGW_TOOLS") or _ROOT / ".tools") / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}-{version}"
    with (folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            unpack(_archive(folder, f"{name}@{version}"), sha512, target)
    return target / "package"


def _archive(folder: Path, package: str) -> bytes:
    """Fetch; a refusal is remembered for a while, so that not every test of a run waits for it again."""
    refused = folder / f"refused-{package}"
    if refused.exists() and time.time() - refused.stat().st_mtime < _REFUSED_S:
        pytest.skip(refused.read_text(encoding="utf-8"))
    command = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(folder), package]
    try:
        run = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_FETCH_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        run = None
    if run is None or run.returncode:
        reason = f"npm does not deliver {package}"
        refused.write_text(reason, encoding="utf-8")
        pytest.skip(reason)
    archive = folder / run.stdout.split()[-1]
    data = archive.read_bytes()
    archive.unlink()
    return data


def unpack(archive: bytes, sha512: str, target: Path) -> None:
    """Unpack an archive into a folder that appears whole or not at all.

    Raises:
        AssertionError: it is another file than the one that was looked at.
    """
    found = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if found != sha512:
        raise AssertionError(f"{target.name}: sha512 {found}, expected {sha512}")
    fresh = target.with_name(target.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    packed = fresh / "archive.tgz"
    packed.write_bytes(archive)
    # Filters came with 3.11.4; Debian 12 has 3.11.2. What is unpacked is known by its hash anyway.
    options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(packed) as tar:
        tar.extractall(fresh, **options)
    fresh.rename(target)
