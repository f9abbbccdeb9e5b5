"""The manifest of the program: the SHA-256 of each file that can be executed, and what differs from it.

Taken at the first start and kept sealed in the system partition; each start compares the program with it, and
each self-test with what was started. What is not covered: Python itself, libraries, and byte code that Python
keeps beside a file; a read-only installation of another user (see the unit in `tools/examples`) covers those.

Rule: protection profile PP-0073, FPT_TST.1 (integrity of stored code).
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from firmware.errors import StoreCorrupt

PACKAGES: Final = ("firmware", "hsm", "lmn", "wan", "han")
SUFFIXES: Final = frozenset({".py", ".so", ".pyd"})
ROOT: Final = Path(__file__).resolve().parents[2]
_NAMED: Final = 5
Manifest = Mapping[str, str]
"""File, relative to the program's root and with slashes -> SHA-256, hexadecimal."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between two manifests; false if nothing does."""

    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.added or self.missing)

    def __str__(self) -> str:
        parts = (("changed", self.changed), ("added", self.added), ("missing", self.missing))
        return "; ".join(f"{word}: {_some(files)}" for word, files in parts if files)


def take(root: Path = ROOT) -> dict[str, str]:
    """Return the manifest of the program in `root`; OSError if a file cannot be read."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*")):
            if path.suffix in SUFFIXES and not path.is_dir():
                digest_of = hashlib.sha256(path.read_bytes()).hexdigest()
                # Interned: gateways of one process, and the manifests of one gateway, share their texts.
                found[sys.intern(path.relative_to(root).as_posix())] = sys.intern(digest_of)
    return found


def digest(manifest: Manifest) -> str:
    """Return one SHA-256 for all of it, hexadecimal."""
    return hashlib.sha256(encode(manifest)).hexdigest()


def changes(before: Manifest, now: Manifest) -> Changes:
    """Return what differs, by file."""
    return Changes(
        changed=tuple(sorted(name for name in before if now.get(name, before[name]) != before[name])),
        added=tuple(sorted(now.keys() - before.keys())),
        missing=tuple(sorted(before.keys() - now.keys())),
    )


def encode(manifest: Manifest) -> bytes:
    """Return a manifest as it is kept."""
    return msgspec.json.encode(dict(manifest), order="sorted")


def decode(kept: bytes) -> dict[str, str]:
    """Read what `encode` made; StoreCorrupt if it is something else."""
    try:
        return msgspec.json.decode(kept, type=dict[str, str])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreCorrupt("the program's manifest cannot be read") from error


def _some(files: tuple[str, ...]) -> str:
    more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
    return ", ".join(files[:_NAMED]) + more
