"""The free references for ephemeral keys on a card, and the queue of those who wait for one. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


class Waiter(Protocol):
    """A future that gets (reference, epoch)."""

    def done(self) -> bool:
        """Whether it has its result, or nobody waits any more."""

    def set_result(self, result: tuple[int, int], /) -> None:
        """Hand over a reference."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Say that there will be none."""


@dataclass(slots=True)
class FreeSlots:
    """The free ephemeral references of the card, and who waits for one."""

    references: tuple[int, ...]
    epoch: int = 0
    free: list[int] = field(default_factory=list)
    waiters: list[Waiter] = field(default_factory=list)

    def reset(self, epoch: int) -> None:
        """The card lost its volatile keys: all are free."""
        self.epoch, self.free = epoch, list(reversed(self.references))
        while self.free and (waiter := self._next_waiter()):
            waiter.set_result((self.free.pop(), epoch))

    def put(self, reference: int, epoch: int) -> None:
        """Give one back, unless it belongs to a connection that is gone."""
        if epoch != self.epoch:
            return
        if waiter := self._next_waiter():
            waiter.set_result((reference, epoch))
        else:
            self.free.append(reference)

    def clear(self) -> None:
        """The connection is gone: nothing is free until the next `reset`."""
        self.epoch = -1
        self.free.clear()

    def _next_waiter(self) -> Waiter | None:
        while self.waiters:
            waiter = self.waiters.pop(0)
            if not waiter.done():
                return waiter
        return None
