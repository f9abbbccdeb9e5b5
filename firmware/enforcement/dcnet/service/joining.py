"""A gateway's way into one roster: key bundle, checked roster, revealed nonce, beacon, keys.

Part of the driver: asks and keeps, and leaves every judgement to `roster` and `membership`. What has been
taken is durable before anything follows from it, so a restart goes on where the power went, with the same
nonce and the same roster. Spec: docs/dcnet.md, membership.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from firmware.enforcement.dcnet.founding import membership as members
from firmware.enforcement.dcnet.founding.authorisation import GraphPublication
from firmware.enforcement.dcnet.founding.beacon import NONCE_BYTES, BeaconReveal
from firmware.enforcement.dcnet.founding.membership import Membership
from firmware.enforcement.dcnet.founding.roster import (
    CheckedRoster,
    Signatures,
    check_authorisations,
    check_roster,
)
from firmware.enforcement.dcnet.messages.roster import KeyBundle, RosterPublication, SignedBundle
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service.client import NetClient
from firmware.enforcement.dcnet.slot.ledger import Ledger
from hsm.api import KeySlot, PublicKey, SecurityModule

_PSEUDONYM_BYTES: Final = 16


class Joining:
    """One gateway on its way into one roster version.

    Args:
        rules: the policy the administrator signed.
        gateway_id: lower case, as in URLs.
        version: of the roster.
        signatures: signs and checks the control plane.
        module: holds the DCNET key.
        key_slot: where.
        emp_key: the EMP's public ENC key; its curve is the curve of the DCNET keys.
        client: the way to the net's EMP.
        ledger: keeps nonce, bundle, roster and what the graph follows from.
        today: the current epoch.
    """

    def __init__(
        self,
        rules: NetRules,
        gateway_id: str,
        version: int,
        *,
        signatures: Signatures,
        module: SecurityModule,
        key_slot: KeySlot,
        emp_key: PublicKey,
        client: NetClient,
        ledger: Ledger,
        today: Callable[[], int],
    ) -> None:
        self._rules, self._gateway_id, self._version = rules, gateway_id, version
        self._signatures, self._module = signatures, module
        self._key_slot, self._emp_key = key_slot, emp_key
        self._client, self._ledger, self._today = client, ledger, today
        self._offered = self._revealed = False
        self._own: tuple[BeaconReveal, SignedBundle, KeyBundle] | None = None
        self._checked: CheckedRoster | None = None

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
        if not self._offered:
            self._offered = await self._client.offer_bundle(self._version, self._gateway_id, offer.to_bytes())
        if (checked := await self._roster(own)) is None:
            return None
        return await self._draw(checked, reveal)

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
        content = await self._signatures.by_member(offer.signed, offer.certificate)
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
                signatures=self._signatures,
            )
            if kept is None:
                await self._ledger.keep(name, data)
            self._checked = checked
        return self._checked

    async def _draw(self, checked: CheckedRoster, reveal: BeaconReveal) -> Membership | None:
        """Reveal our nonce, and join as soon as everybody has."""
        name = f"graph-{self._version}"
        kept = data = await self._ledger.kept(name)
        if data is None:
            self._revealed = self._revealed or await self._client.reveal(
                self._version, self._gateway_id, reveal.to_bytes()
            )
            if (data := await self._client.graph(self._version)) is None:
                return None
        published = GraphPublication.from_bytes(data)
        membership = await members.join(
            self._rules,
            checked,
            published.nonces,
            await check_authorisations(checked, published.authorisations, self._today(), self._signatures),
            module=self._module,
            key_slot=self._key_slot,
            emp_point=self._emp_key.point,
        )
        if kept is None:
            await self._ledger.keep(name, data)
        return membership
