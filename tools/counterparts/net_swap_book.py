"""A swap under way as its supplier keeps it: durable before anybody hears of it, until it is carried out.

Shares the codecs of the product and none of its checks. What it means for a process that was killed is in
`net_swapping`; the file is a `net_journal`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.canonical import decode, encode
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.roster import Attestation
from tools.counterparts.net_journal import Journal, JournalDamaged
from tools.counterparts.net_swap_documents import SwapProposal

JOURNAL_NAME: Final = b"swaps\0\0\0"
"""Whose journal it is: of no net, so no net's id."""
MEND_SWAPS: Final = (
    "never put an older copy in its place, the supplier would contradict itself; a file that is taken away "
    "loses the swap under way, and gateways whose administrator has ordered it still change places"
)


@dataclass
class Underway:
    """A swap that is proposed, until its orders are given or it is too late."""

    proposal: SwapProposal
    presentation: bytes
    """The proposal as we have signed it, with all that it is judged by."""
    leave: tuple[dict[str, str], dict[str, str]]
    """Of each net, in the order of the proposal: gateway that leaves it -> name of its administrator."""
    names: tuple[tuple[str, ...], tuple[str, ...]]
    """Of each net: the administrators of its roster."""
    consents: dict[str, Attestation] = field(default_factory=dict)
    ordering: bool = False
    """Whether somebody may have seen everybody's consent; from then on it is not given up."""
    carried: set[str] = field(default_factory=set)
    """Who has given its orders."""
    restored: bool = False
    """Whether a process before this one proposed it, and nothing was said of it since."""
    said: set[str] = field(default_factory=set)
    """What was told of it; each thing once, and again after a restart."""

    @property
    def identity(self) -> bytes:
        """The proposal's hash."""
        return document_hash(self.proposal)

    @property
    def everybody(self) -> frozenset[str]:
        """Names of all who must agree."""
        return frozenset(self.names[0]) | frozenset(self.names[1])


class SwapBook:
    """The swap under way in a journal.

    Args:
        journal: outlives this process, and is nobody else's.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._room, self._tried = journal.room("swap"), journal.room("tried")

    async def sync(self) -> None:
        """Wait until all that was noted is durable, for as long as the disk is full or away."""
        await self._journal.sync_patiently()

    def restore(self) -> Underway | None:
        """Return the swap that a process before this one had under way.

        Raises:
            JournalDamaged: a record has another form than ours.
        """
        data = self._room.get("proposal")
        if data is None:
            return None
        try:
            record: Any = decode(data)
            proposal, presentation, leave, names = record
            one, two = (dict(pairs) for pairs in leave)
            found = Underway(
                SwapProposal.from_bytes(proposal),
                presentation,
                (one, two),
                (tuple(names[0]), tuple(names[1])),
                {name: Attestation.from_bytes(given) for name, given in self._room.items("consent/")},
                self._room.get("ordering") is not None,
                {name for name, _ in self._room.items("carried/")},
                restored=True,
            )
        except (MalformedObject, TypeError, ValueError) as error:
            raise JournalDamaged(
                f"swaps: a record has another form than ours: {error}", MEND_SWAPS
            ) from error
        return found

    def begin(self, underway: Underway) -> None:
        """Note a proposal; nobody may see it before the next `sync`."""
        leave = [[list(pair) for pair in one.items()] for one in underway.leave]
        names = [list(one) for one in underway.names]
        record = [underway.proposal.to_bytes(), underway.presentation, leave, names]
        self._room.put("proposal", encode(record))

    def consented(self, name: str, given: Attestation) -> None:
        """Note that an administrator agrees."""
        self._room.put(f"consent/{name}", given.to_bytes())

    def order(self) -> None:
        """Note that all agree; nobody may see that before the next `sync`."""
        self._room.put("ordering", b"")

    def carried(self, name: str) -> None:
        """Note that an administrator has given its orders."""
        self._room.put(f"carried/{name}", b"")

    def end(self) -> None:
        """Nothing is under way any more."""
        self._room.clear()

    def tried(self, net: str) -> int | None:
        """Return the epoch for which a swap was last looked for on behalf of a net."""
        data = self._tried.get(net)
        return None if data is None else int(data)

    def note_tried(self, net: str, epoch: int) -> None:
        """Note that one is looked for: once for each epoch, by later processes as well."""
        self._tried.put(net, str(epoch).encode())
