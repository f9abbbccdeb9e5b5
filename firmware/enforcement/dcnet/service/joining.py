"""A gateway's way into one roster: key bundle, checked roster, revealed nonce, beacon, keys.

Part of the driver: asks and keeps, and leaves every judgement to `roster` and `membership`. What has been
taken is durable before anything follows from it, so a restart goes on where the power went, with the same
nonce and the same roster. Spec: docs/dcnet.md, membership.
"""

from __future__ import annotations

from typing import Final

from firmware.enforcement.dcnet.errors import MembershipRefused
from firmware.enforcement.dcnet.founding import membership as members
from firmware.enforcement.dcnet.founding.authorisation import GraphPublication
from firmware.enforcement.dcnet.founding.beacon import NONCE_BYTES, BeaconReveal
from firmware.enforcement.dcnet.founding.keyring import KeyRing
from firmware.enforcement.dcnet.founding.membership import Membership, Rings
from firmware.enforcement.dcnet.founding.roster import (
    CheckedRoster,
    Signatures,
    check_authorisations,
    check_roster,
)
from firmware.enforcement.dcnet.founding.succession import (
    NO_ROSTER,
    check_churn,
    check_first,
    check_successor,
)
from firmware.enforcement.dcnet.messages.canonical import decode_kept, encode
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.roster import KeyBundle, Roster, RosterPublication, SignedBundle
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service.client import Clock, NetClient
from firmware.enforcement.dcnet.service.confirming import Confirming
from firmware.enforcement.dcnet.service.resting import RESTING
from firmware.enforcement.dcnet.slot.ledger import Ledger
from hsm.api import KeySlot, PublicKey, SecurityModule

_PSEUDONYM_BYTES: Final = 16
_FINAL: Final = frozenset({"degree", "component"})
"""Refusals that follow from nonces and authorisations alone."""
_LOOKED_BACK: Final = 64
"""So many versions back the roster in force is looked for by somebody who has missed some."""
_TAKEN: Final = "roster-taken"
"""Record: which version was taken last, and when (Unix time)."""
RECORDS: Final = (RESTING, "nonce", "bundle", "roster", "graph", "keys", "reconcile-keys")
"""What is kept of one roster version, each under its name and the version."""


class Joining:
    """One gateway on its way into one roster version.

    Args:
        rules: the policy the administrator signed.
        gateway_id: lower case, as in URLs.
        version: of the roster.
        key_slot: where the DCNET key of this version is.
        confirming: shows the neighbours that we hold their keys.
        before: the roster that this gateway is in now; None if in none.
        signatures: signs and checks the control plane.
        module: holds the DCNET key.
        emp_key: the EMP's public ENC key; its curve is the curve of the DCNET keys.
        client: the way to the net's EMP.
        ledger: keeps nonce, bundle, roster, what the graph follows from, and the keys once confirmed.
        clock: the gateway's.
    """

    def __init__(
        self,
        rules: NetRules,
        gateway_id: str,
        version: int,
        key_slot: KeySlot,
        confirming: Confirming,
        before: Roster | None,
        *,
        signatures: Signatures,
        module: SecurityModule,
        emp_key: PublicKey,
        client: NetClient,
        ledger: Ledger,
        clock: Clock,
    ) -> None:
        self._rules, self._gateway_id, self._version = rules, gateway_id, version
        self._signatures, self._module = signatures, module
        self._key_slot, self._emp_key = key_slot, emp_key
        self._client, self._ledger, self._clock = client, ledger, clock
        self.confirming, self._before = confirming, before
        self._offered = self._revealed = False
        self._own: tuple[BeaconReveal, SignedBundle, KeyBundle] | None = None
        self._checked: CheckedRoster | None = None
        self._fruitless: tuple[bytes, tuple[str, str]] | None = None
        """What was published and gives no graph for us, and why: drawing it again would be wasted."""
        self._drawn: Membership | None = None

    @property
    def version(self) -> int:
        """Of the roster."""
        return self._version

    @property
    def rostered(self) -> bool:
        """Whether a roster has passed every check."""
        return self._checked is not None

    async def go_on(self) -> Membership | None:
        """Go as far as what is published allows; None while something is missing.

        Raises:
            MembershipRefused, MalformedObject, WanError, CertificateRefused: something published is refused.
            HsmError: the module fails.
        """
        if self._own is None:
            reveal = await self._nonce()
            self._own = (reveal, *await self._bundle(reveal))
        reveal, offer, own = self._own
        rings = await self._kept_rings()
        if not self._offered and rings is None:
            self._offered = await self._client.offer_bundle(self._version, self._gateway_id, offer.to_bytes())
        if (checked := await self._roster(own)) is None:
            return None
        if self._drawn is None:
            self._drawn = await self._draw(checked, reveal, rings)
        if self._drawn is None:
            return None
        if rings is None:
            epoch = max(self._today(), checked.roster.first_epoch)
            if not await self.confirming.go_on(self._drawn, epoch):
                return None
            await self.keep_keys(self._drawn)
        await self._release_key(own)
        return self._drawn

    async def keep_keys(self, membership: Membership) -> None:
        """Keep the keys as they are now; those kept before are overwritten."""
        if membership.reconcile is not None:  # first: what the others stand for is then complete
            await self._ledger.keep(f"reconcile-keys-{self._version}", membership.reconcile.ring.to_bytes())
        await self._ledger.keep(f"keys-{self._version}", membership.ring.to_bytes())

    async def _kept_rings(self) -> Rings | None:
        kept = await self._ledger.kept(f"keys-{self._version}")
        if kept is None:
            return None
        beside = await self._ledger.kept(f"reconcile-keys-{self._version}")
        return KeyRing.from_bytes(kept), None if beside is None else KeyRing.from_bytes(beside)

    async def _release_key(self, own: KeyBundle) -> None:
        """Erase the key that every edge was agreed with: from now on the sealed chains are all there is."""
        if await members.holds(self._module, self._key_slot, own.point):
            await self._module.delete_key(self._key_slot)

    def _today(self) -> int:
        return self._rules.epoch_of(self._rules.slot_at(self._clock.now_utc()))

    async def _nonce(self) -> BeaconReveal:
        """Return the one nonce of this roster version; made and kept at the first call."""
        name = f"nonce-{self._version}"
        if (kept := await self._ledger.kept(name)) is None:
            nonce = await self._module.random(NONCE_BYTES)
            kept = BeaconReveal(self._rules.net, self._version, nonce).to_bytes()
            await self._ledger.keep(name, kept)
        return BeaconReveal.from_bytes(kept)

    async def _bundle(self, reveal: BeaconReveal) -> tuple[SignedBundle, KeyBundle]:
        """Return the one bundle of this roster version; made and kept at the first call."""
        name = f"bundle-{self._version}"
        if (kept := await self._ledger.kept(name)) is None:
            public = await self._module.generate_key_pair(self._key_slot, self._emp_key.curve)
            pseudonym = await self._module.random(_PSEUDONYM_BYTES)
            made = await members.make_bundle(
                self._rules, self._version, pseudonym, public.point, reveal.commitment, self._signatures
            )
            await self._ledger.keep(name, kept := made.to_bytes())
        offer = SignedBundle.from_bytes(kept)
        content = await self._signatures.sealed().by_member(offer.signed, offer.certificate)
        return offer, KeyBundle.from_bytes(content)

    async def _roster(self, own: KeyBundle) -> CheckedRoster | None:
        """Return the kept or the published roster; the first that is good is the only one of this version."""
        if self._checked is None:
            name = f"roster-{self._version}"
            kept = await self._ledger.kept(name)
            data = await self._client.roster(self._version) if kept is None else kept
            if data is None:
                return None
            checked = await check_roster(
                self._rules,
                RosterPublication.from_bytes(data),
                own,
                today=self._today(),
                signatures=self._signatures if kept is None else self._signatures.sealed(),
            )
            if kept is None:
                await self._succeeds(checked.roster)
                taken = [self._version, int(self._clock.now_utc().timestamp())]
                await self._ledger.keep(_TAKEN, encode(taken))
                await self._ledger.keep(name, data)
            self._checked = checked
        return self._checked

    async def _succeeds(self, roster: Roster) -> None:
        """Check that a new roster follows the one in force, and not too soon after the last that we took."""
        if (kept := await self._ledger.kept(_TAKEN)) is not None:
            version, taken = _numbers(kept)
            passed = self._clock.now_utc().timestamp() - taken
            if version != self._version and passed < self._rules.roster_pause_s:
                raise MembershipRefused("pause", "the last roster is too fresh for another one")
        before = await self._predecessor(roster)
        if before is None:
            check_first(self._rules, roster)
        else:
            check_successor(self._rules, before, roster, self._today())
            if self._before is not None:  # the one before may never have been in force: ours was
                check_churn(self._rules, self._before, roster)

    async def _predecessor(self, roster: Roster) -> Roster | None:
        """Return the roster that this one follows; None if there is none, or nobody shows it.

        Who is in a roster and has missed others follows their hashes back to its own.
        """
        if roster.previous == NO_ROSTER and self._before is None:
            return None
        if self._before is not None and roster.previous == document_hash(self._before):
            return self._before
        found, wanted = None, roster.previous
        for version in range(roster.version - 1, max(0, roster.version - 1 - _LOOKED_BACK), -1):
            if self._before is not None and (
                wanted == document_hash(self._before) or version <= self._before.version
            ):
                break
            shown = await self._shown(version)
            if shown is not None and document_hash(shown) == wanted:
                found, wanted = found or shown, shown.previous
                if self._before is None:
                    break
        if self._before is not None and wanted != document_hash(self._before):
            raise MembershipRefused("previous", "the roster does not come from the one that we are in")
        return found

    async def _shown(self, version: int) -> Roster | None:
        """Return a roster that is no longer ours to check; its hash will say whether it is the right one."""
        if (data := await self._client.roster(version)) is None:
            return None
        return Roster.from_bytes(await self._signatures.by_emp(RosterPublication.from_bytes(data).signed))

    async def _draw(
        self, checked: CheckedRoster, reveal: BeaconReveal, rings: Rings | None
    ) -> Membership | None:
        """Reveal our nonce, and agree on keys as soon as everybody has."""
        name = f"graph-{self._version}"
        kept = data = await self._ledger.kept(name)
        if data is None:
            self._revealed = self._revealed or await self._client.reveal(
                self._version, self._gateway_id, reveal.to_bytes()
            )
            if (data := await self._client.graph(self._version)) is None:
                return None
        if self._fruitless is not None and self._fruitless[0] == data:
            raise MembershipRefused(*self._fruitless[1])
        published = GraphPublication.from_bytes(data)
        signatures = self._signatures if kept is None else self._signatures.sealed()
        allowed = await check_authorisations(checked, published.authorisations, self._today(), signatures)
        try:
            membership = await members.join(
                self._rules,
                checked,
                published.nonces,
                allowed,
                module=self._module,
                key_slot=self._key_slot,
                emp_point=self._emp_key.point,
                rings=rings,
            )
        except MembershipRefused as refused:
            if refused.code in _FINAL:  # the same nonces give the same graph, however often it is drawn
                self._fruitless = data, (refused.code, refused.detail)
            raise
        if kept is None:
            await self._ledger.keep(name, data)
        return membership


def _numbers(data: bytes) -> list[int]:
    items = decode_kept(data)
    assert isinstance(items, list), "our own record"
    return items
