"""What can be done to a partition in one commit. Values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Put:
    """Keep `plaintext` under `key`, replacing what was there. Result: 1."""

    kind: str
    key: str
    plaintext: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Insert:
    """Keep `plaintext` under `key` unless the key is in `kind` or in `unless`. Result: 1 kept, 0 known."""

    kind: str
    key: str
    plaintext: bytes = field(repr=False)
    unless: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Forget what is under `key`. Result: 1 if there was something, else 0."""

    kind: str
    key: str


@dataclass(frozen=True, slots=True)
class KeepNewest:
    """Forget all but the `count` keys of `kind` that were put first most recently. Result: how many went."""

    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class Append:
    """Add a record at the end of the list `kind`. Result: its number, from 1, without gaps."""

    kind: str
    plaintext: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Chain:
    """Add a record that depends on its predecessor, e.g. by its hash. Result: its number.

    `follow(number, previous plaintext or None)` makes the plaintext; it runs in the writer thread and
    must be a pure function.
    """

    kind: str
    follow: Callable[[int, bytes | None], bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Trim:
    """Forget the records of the list `kind` up to and including number `through`. Result: how many went."""

    kind: str
    through: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Forget a kind altogether: items, records and its name. Result: how many rows went.

    The bytes are overwritten in the file at the next `Partition.compact`. A list begins again at record 1.
    """

    kind: str


@dataclass(frozen=True, slots=True)
class Sift:
    """Keep of the list `kind` only the records that `keep` says yes to, under new numbers at its end.

    Result: how many went. `keep` runs in the writer thread and must be a pure function.
    """

    kind: str
    keep: Callable[[bytes], bool] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Epoch:
    """Note the epoch that the file belongs to: see `firmware.store.anchor`. Result: the epoch."""

    number: int


Operation = Put | Insert | Delete | KeepNewest | Append | Chain | Trim | Forget | Sift | Epoch
