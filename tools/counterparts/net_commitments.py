"""V-mode on the supplier's side: orders commitments, checks every proof and sum, names who proves wrongly.

Shares the codecs and the group's arithmetic with the product, none of its rules. Sees commitments, masked
blindings and their sum, and no reading. Spec: docs/dcnet.md, V-mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from firmware.enforcement.dcnet.errors import DcNetError, MalformedObject, ProofRefused
from firmware.enforcement.dcnet.messages.commit import CommitOrder, CommitV, OpenV, Reason
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, FrameType, digest
from firmware.enforcement.dcnet.messages.roster import SignedBundle
from firmware.enforcement.dcnet.policy import CANARY_LANE, TENTHS, NetRules
from firmware.enforcement.dcnet.primitives import scalars
from tools.counterparts.messages import MessageRefused
from tools.counterparts.net_founding import CoordinatorKeys
from tools.counterparts.net_request import body_of, number
from tools.counterparts.net_slot_book import SlotBook
from tools.counterparts.net_tally import Taken, Tally
from tools.counterparts.net_versions import Version
from tools.counterparts.server import Emit

DATA_LANES: Final = CANARY_LANE
_NOT_YET: Final = 425


class Commitments:
    """V-mode of one net's supplier.

    Args:
        rules: of the net.
        keys: the supplier's.
        emit: takes events.
        convict: takes the index of a member that has signed a wrong proof, in the slot that is played, and
            what it has signed.
        book: outlives this process.
    """

    def __init__(
        self,
        rules: NetRules,
        keys: CoordinatorKeys,
        emit: Emit,
        convict: Callable[[int, bytes], None],
        book: SlotBook | None = None,
    ) -> None:
        self._book = book or SlotBook()
        self._rules, self._keys, self._emit, self._convict = rules, keys, emit, convict
        self._net = rules.net.hex()
        self._ordered = self._book.orders()
        """The slots for which commitments are ordered, and why."""
        self._signed: tuple[CommitOrder, bytes] | None = None
        self._roster_hash = b""
        self._certificates: dict[int, bytes] = {}
        self._tally: Tally | None = None
        self._given: dict[int, CommitV] = {}
        """Index -> what it committed to."""
        self._words: dict[int, scalars.Words] = {}
        self._convicted: set[int] = set()

    # -- orders --------------------------------------------------------------------------------------

    def demand(self, slot: int, reason: Reason = Reason.DEMAND, slots: int | None = None) -> None:
        """Order commitments from `slot` on; as many slots as the policy allows, if not told.

        Raises:
            ValueError: more than the policy allows, or it allows none.
        """
        count = self._rules.v_slots if slots is None else slots
        if not 1 <= count <= self._rules.v_slots:
            raise ValueError(f"{count} slots of V-mode; the policy allows {self._rules.v_slots} at once")
        self._ordered.append((range(slot, slot + count), reason))
        self._book.keep_orders(self._ordered)
        said = {"event": "v-mode", "net": self._net, "slot": slot, "last_slot": slot + count - 1}
        self._emit(said | {"reason": reason.name.lower()})

    def active(self, slot: int) -> bool:
        """Tell whether the slot that is played is one with commitments; decided when it began."""
        return self._tally is not None and slot == self._tally.slot and self._signed is not None

    async def begin(self, now: Version, tally: Tally) -> None:
        """Another slot is played, or goes on after a restart; its order is signed for the roster in force."""
        self._roster_hash = document_hash(now.roster)
        self._certificates = dict(now.founding.certificates)
        self._given, self._words, self._convicted = {}, {}, set()
        if self._book.decided(tally.slot):
            self._restore(tally)
            return
        self._ordered = [(slots, reason) for slots, reason in self._ordered if slots.stop > tally.slot]
        version, found = now.roster.version, self._signed
        if found is None or found[0].version != version or not found[0].covers(tally.slot):
            found = None
            for slots, reason in self._ordered:
                if tally.slot in slots:
                    order = CommitOrder(self._rules.net, version, tally.slot, slots.stop - tally.slot, reason)
                    found = (order, await self._keys.sign(order.to_bytes()))
                    break
        if self._rules.v_slots:
            self._book.keep_orders(self._ordered)
            self._book.keep_commit_order(tally.slot, found)
        self._tally, self._signed = tally, found  # last: from now on members hear whether it is verified

    def _restore(self, tally: Tally) -> None:
        slot = tally.slot
        for index, content in self._book.commitments(slot).items():
            self._given[index] = CommitV.from_bytes(content)
        for index, content in self._book.blindings(slot).items():
            self._words[index] = OpenV.from_bytes(content).words
        self._tally, self._signed = tally, self._book.commit_order(slot)

    def after(self, tally: Tally, *, fits: bool) -> None:
        """A slot has its result; if its total was impossible, the next ones are verified."""
        if tally.impossible and self._rules.v_slots:
            self.demand(tally.slot + 1, Reason.RANGE if fits else Reason.MISFIT)

    # -- what members send ---------------------------------------------------------------------------

    async def commit(self, slot: int, index: int, gateway: str, body: bytes) -> Taken:
        """Take a signed `CommitV`; a wrong proof under a right signature convicts the member."""
        tally = self._tally
        if tally is None or slot < tally.slot or tally.manifest is not None:
            return Taken.LATE
        if not self.active(slot):
            return Taken.REFUSED
        try:
            signer, content = await self._keys.open_bundle(SignedBundle(self._certificates[index], body))
            said = CommitV.from_bytes(content)
        except (DcNetError, MessageRefused, KeyError):
            return Taken.REFUSED
        terms = tally.terms
        place = (signer, said.net, said.version, said.epoch, said.slot, said.index, said.reference)
        meant = (gateway, terms.net, terms.version, tally.epoch, slot, index, tally.previous)
        if tally is not self._tally or tally.manifest is not None:
            return Taken.LATE
        if place != meant or index not in tally.present or index in self._convicted:
            return Taken.REFUSED
        if (known := self._given.get(index)) is not None:
            return Taken.KNOWN if known == said else Taken.CONFLICT
        try:
            self._prove(said)
        except ProofRefused as wrong:
            named = {"event": "v-named", "net": self._net, "slot": slot, "gateway": gateway}
            self._emit(named | {"check": wrong.check})
            self._convicted.add(index)
            self._convict(index, body)
            return Taken.REFUSED
        self._given[index] = said
        self._book.took("commit", slot, index, content)
        return Taken.NEW

    def _prove(self, said: CommitV) -> None:
        from firmware.enforcement.dcnet.primitives import verifiable  # loads libsodium, in V-mode only

        limits = (self._rules.max_wh * TENTHS,) * DATA_LANES
        place = (said.net, self._roster_hash, said.epoch, said.slot, said.index, said.reference)
        binding = verifiable.Binding(*place, said.submission, limits)
        verifiable.check(binding, said.points, said.masked, said.proof)

    def admits(self, slot: int, index: int, frame: bytes) -> int:
        """Return with what status a Submit frame (with its MAC) is turned away, 0 if it is not.

        In V-mode a submission counts only behind the commitments made for it, so its member tries again.
        """
        if not self._rules.v_slots or frame[1:2] != bytes((FrameType.SUBMIT,)):
            return 0
        if self._tally is None or self._tally.slot != slot:
            return _NOT_YET  # not decided yet
        if not self.active(slot) or index in self._convicted:
            return 0
        if (given := self._given.get(index)) is None:
            return _NOT_YET
        return 0 if given.submission == digest(frame[:-MAC_BYTES]) else Taken.CONFLICT.value

    def opening(self, slot: int, index: int, sealed: bytes) -> Taken:
        """Take an `OpenV`."""
        tally = self._tally
        if tally is None or slot != tally.slot or tally.manifest is None or index not in self._given:
            return Taken.LATE if tally is not None and slot < tally.slot else Taken.REFUSED
        mac = CMAC(AES(tally.terms.mac_keys[index]))
        mac.update(sealed[:-MAC_BYTES])
        try:
            mac.verify(sealed[-MAC_BYTES:])
            said = OpenV.from_bytes(sealed[:-MAC_BYTES])
        except (InvalidSignature, MalformedObject):
            return Taken.REFUSED
        place = (said.net, said.version, said.slot, said.index, said.manifest_hash)
        terms = tally.terms
        if place != (terms.net, terms.version, slot, index, document_hash(tally.manifest)):
            return Taken.REFUSED
        if len(said.words) != DATA_LANES or index not in tally.accepted:
            return Taken.REFUSED
        if (known := self._words.get(index)) is not None:
            return Taken.KNOWN if known == said.words else Taken.CONFLICT
        self._words[index] = said.words
        self._book.took("blinding", slot, index, sealed[:-MAC_BYTES])
        return Taken.NEW

    def opens(self, slot: int, index: int) -> bool:
        """Tell whether an Open may be taken: in V-mode only behind what opens the member's blindings."""
        return not self.active(slot) or index in self._words or index not in self._given

    # -- the check -----------------------------------------------------------------------------------

    def fit(self, tally: Tally) -> bool:
        """Tell whether a slot's sums are what was committed to; so if nothing was, or not all have opened."""
        if not self.active(tally.slot) or not tally.complete or not tally.accepted:
            return True
        from firmware.enforcement.dcnet.primitives import verifiable  # loads libsodium, in V-mode only

        given = [self._given[index] for index in tally.accepted]
        opened = [self._opened(tally, index) for index in tally.accepted]
        blindings = scalars.total([one.masked for one in given], opened, DATA_LANES)
        lanes = zip(range(DATA_LANES), tally.sums(), blindings, strict=False)
        wrong = [
            lane
            for lane, total, blinding in lanes
            if not verifiable.fits([one.points[lane] for one in given], total, blinding)
        ]
        silent = sorted(tally.present - self._given.keys())
        said = {"event": "v-check", "net": self._net, "slot": tally.slot, "fits": not wrong}
        self._emit(said | {"members": len(given), "without": silent, "lanes": wrong})
        return not wrong

    def _opened(self, tally: Tally, index: int) -> scalars.Words:
        """What a member opened its blindings with; of a lost one what its recovered seed gives."""
        if (words := self._words.get(index)) is not None:
            return words
        return scalars.self_mask(tally.seeds[index], tally.slot, DATA_LANES)

    # -- the resources -------------------------------------------------------------------------------

    def routes(
        self,
        base: str,
        *,
        gateway_of: Callable[[web.Request], str],
        sender: Callable[[web.Request], int],
        taken: Callable[[Taken, str, str], web.Response],
    ) -> list[web.RouteDef]:
        """Return the routes below `base`.

        Args:
            base: of the net.
            gateway_of: gateway id behind a request; refuses strangers.
            sender: its index in the slot that is played; refuses others.
            taken: makes the answer, and notes what was refused of whom.
        """

        async def order(request: web.Request) -> web.Response:
            gateway_of(request)
            slot, tally = number(request, "slot"), self._tally
            if tally is None or slot > tally.slot:
                raise web.HTTPNotFound  # not decided yet
            signed = self._signed
            body = b"" if signed is None or slot != tally.slot else signed[1]
            return web.Response(body=body, content_type="application/octet-stream")

        async def commit(request: web.Request) -> web.Response:
            index, gateway, body = sender(request), gateway_of(request), await body_of(request)
            slot, tally = number(request, "slot"), self._tally
            if tally is None or slot > tally.slot:
                raise web.HTTPNotFound  # not yet: the member tries again
            return taken(await self.commit(slot, index, gateway, body), gateway, "commitment")

        async def opening(request: web.Request) -> web.Response:
            index, gateway, body = sender(request), gateway_of(request), await body_of(request)
            return taken(self.opening(number(request, "slot"), index, body), gateway, "opening of blindings")

        return [
            web.get(base + "/orderv/{slot:\\d+}", order),
            web.put(base + "/commitv/{slot:\\d+}/{index:\\d+}", commit),
            web.put(base + "/openv/{slot:\\d+}/{index:\\d+}", opening),
        ]
