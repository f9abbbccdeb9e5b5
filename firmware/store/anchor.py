"""Binds the partitions to the monotonic counter of the security module, so that older copies are noticed.

Each file holds, sealed, the epoch it belongs to. Moving on to the next epoch C + 1 takes two steps: first
every file notes C + 1, durably, then the counter goes from C to C + 1. Whatever is cut short between the
two leaves files of C or C + 1 beside a counter of C, or files of C + 1 beside a counter of C + 1. So a file
of epoch C or C + 1 is fine, and any other is not: an older copy shows a lower epoch, also when only one of
the files is one. A file that never noted an epoch counts as of epoch 0, and so does one that is missing.

The epoch moves on when the stores are opened, at checkpoints, after a change of keys and when they are
closed in order. What is not noticed: a copy that was made in the same epoch as the one it replaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from firmware.errors import StoreRolledBack, StoreUnavailable
from firmware.store.operations import Epoch
from firmware.store.partition import Partition
from hsm.api import SecurityModule
from hsm.errors import CommandRefused, HsmError

_NO_COUNTER: Final = frozenset({0x6A82, 0x6A88, 0x6D00})
"""File, reference or instruction unknown: the module has no counter at all."""


class Anchor:
    """The epoch of a set of partitions and the counter of their module, kept in step.

    Args:
        module: has the counter.
        partitions: all of a set, open.
    """

    def __init__(self, module: SecurityModule, partitions: Sequence[Partition]) -> None:
        self._module, self._partitions = module, partitions
        self.detects = True
        """False: the module has no counter, so older copies are not noticed."""

    async def check(self) -> int | None:
        """Compare; return the counter, None if the module has none.

        Raises:
            StoreRolledBack: names a file that is older than the counter says, or newer, and both numbers.
            StoreUnavailable: the module has no counter although the files were bound to one.
            HsmError: the module could not be asked.
        """
        counter = await self._counter()
        if counter is not None:
            for partition in self._partitions:
                judge(partition.name, partition.epoch, counter)
        return counter

    async def advance(self, *, known: bool = False, accept: bool = False) -> None:
        """Move on to the next epoch. Cut short at any point, it has happened or can happen again.

        Args:
            known: the files were checked and have been held open since, so they are the newest: a counter
                that somebody else has moved is followed, one that went back is not.
            accept: take the files as they are, whatever their epoch: a restored backup.

        Raises:
            StoreRolledBack: as `check`; nothing was changed.
            StoreUnavailable, StoreCorrupt: a partition took no note of it.
            HsmError: the module failed.
        """
        async with self._partitions[0].turn:  # two at once would count twice, and raise a false alarm
            counter = await (self._counter() if known or accept else self.check())
            if counter is None:
                return
            if known:
                for partition in self._partitions:
                    judge(partition.name, max(partition.epoch, counter), counter)
            await self.prepare(counter)
            await self.complete(counter)

    async def _counter(self) -> int | None:
        counter = await counter_of(self._module)
        if counter is None:
            if any(partition.epoch for partition in self._partitions):
                raise StoreUnavailable("the stores are bound to a counter that this security module lacks")
            self.detects = False
        return counter

    async def prepare(self, counter: int) -> None:
        """Do the first step alone: every file notes the epoch after `counter`."""
        for partition in self._partitions:
            if partition.epoch != counter + 1:
                await partition.commit((Epoch(counter + 1),))

    async def complete(self, counter: int) -> None:
        """Do the second step: the counter goes from `counter` to the next; HsmError if that is not sure."""
        try:
            now = await self._module.increase_counter()
        except HsmError:
            # The answer may be lost and the counter increased all the same: only reading it tells.
            now = await self._module.counter()
            if now == counter:
                now = await self._module.increase_counter()
        if now != counter + 1:
            raise StoreUnavailable("the security module's counter was moved by somebody else")


async def counter_of(module: SecurityModule) -> int | None:
    """Return the module's counter, None if it has none; HsmError if it could not be asked."""
    try:
        return await module.counter()
    except CommandRefused as refused:
        if refused.sw not in _NO_COUNTER:
            raise
        return None


def judge(name: str, epoch: int, counter: int) -> None:
    """Raise StoreRolledBack unless a file of `epoch` may lie beside a module whose counter is `counter`."""
    if epoch not in (counter, counter + 1):
        older = "older" if epoch < counter else "newer"
        raise StoreRolledBack(
            f"partition {name} is {older} than the security module says: epoch {epoch}, counter {counter};"
            " `smgw restore` puts a backup back, or takes the files as they are"
        )
