"""Keys as the provider knows them: which one, where it lives, and for which connection work is being done."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from hsm.api import Curve, EphemeralKey, KeySlot

T = TypeVar("T")


class KeyModule(Protocol):
    """What the provider asks of the security module on behalf of one connection.

    `sign`, `generate` and `agree` run inside a handshake step, so in a worker thread, and may block.
    `discard` may come from any thread, the event loop's included: it must not wait.
    """

    def sign(self, slot: KeySlot, curve: Curve, digest: bytes) -> bytes:
        """Return an ECDSA-Sig-Value (DER) over a finished digest."""

    def generate(self, curve: Curve) -> EphemeralKey:
        """Make a key pair for one agreement."""

    def agree(self, key: EphemeralKey, peer_point: bytes) -> bytes:
        """Return the x-coordinate of the shared point at field length; the key is used up."""

    def discard(self, key: EphemeralKey) -> None:
        """Forget an ephemeral key that was not used."""


@dataclass(slots=True)
class Key:
    """A key as OpenSSL holds it: parameters, perhaps a point, perhaps a private half in the module."""

    curve: Curve | None = None
    point: bytes | None = None
    slot: KeySlot | None = None
    ephemeral: EphemeralKey | None = None
    owner: KeyModule | None = None
    """Who takes `ephemeral` back; None once it is used up."""

    @property
    def private(self) -> bool:
        """Whether the module holds (or held) the private half."""
        return self.slot is not None or self.ephemeral is not None


class HandleTable(Generic[T]):
    """Handles given to C: plain integers, so that OpenSSL never holds the address of a Python object."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._items: dict[int, T] = {}

    def put(self, item: T) -> int:
        """Keep an item and return its handle."""
        handle = next(self._numbers)
        self._items[handle] = item
        return handle

    def __getitem__(self, handle: int) -> T:
        return self._items[handle]

    def __len__(self) -> int:
        return len(self._items)

    def pop(self, handle: int | None) -> T | None:
        """Take an item out; None if there is none."""
        return self._items.pop(handle, None) if handle else None


class Work:
    """What a thread is doing for one connection: with whose keys, and the first thing that went wrong."""

    def __init__(self, module: KeyModule) -> None:
        self.module = module
        self.error: BaseException | None = None
        self.signed = False
        """Whether the module has signed: a client's handshake needs it no more after that."""
        self.hello = b""
        """Random bytes of the module for the hello."""

    def take_error(self) -> BaseException | None:
        """Return what went wrong inside a callback, once."""
        error, self.error = self.error, None
        return error


class _Thread(threading.local):
    work: Work | None = None


_thread = _Thread()


@contextmanager
def performing(work: Work) -> Iterator[None]:
    """Let the provider's callbacks in this thread act for `work`."""
    before, _thread.work = _thread.work, work
    try:
        yield
    finally:
        _thread.work = before


def current() -> Work:
    """The work of this thread; `LookupError` outside a handshake step."""
    if _thread.work is None:
        raise LookupError("a private key was used outside a handshake")
    return _thread.work


def hello_bytes(count: int) -> bytes:
    """Up to `count` of the module's random bytes for the hello being made in this thread, never twice."""
    work = _thread.work
    if work is None:
        return b""
    taken, work.hello = work.hello[:count], work.hello[count:]
    return taken


def note(error: BaseException) -> None:
    """Remember what went wrong in a callback, without the frames that would keep connections alive."""
    if _thread.work is None or _thread.work.error is not None:
        return
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    _thread.work.error = error
