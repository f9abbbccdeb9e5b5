"""The administrator's side of a DC-net: countersigns a roster of its own gateways under its own policy.

Shares the codecs of the product and none of its checks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from firmware.enforcement.dcnet.errors import DcNetError
from firmware.enforcement.dcnet.graph import COMPLETE_UP_TO
from firmware.enforcement.dcnet.messages import KeyBundle, Roster, RosterDraft, document_hash
from firmware.enforcement.dcnet.policy import NetRules
from firmware.profile.model import NetPolicy
from tools.counterparts.messages import MessageRefused, Trust, check_signed
from tools.counterparts.net_keys import open_bundle
from tools.counterparts.server import Emit
from wan.errors import OrderRefused


@dataclass(frozen=True, slots=True)
class OrderedNet:
    """What the administrator ordered in its profiles."""

    policy: NetPolicy
    emp_certificate: bytes
    """DER of the EMP's SIG certificate."""
    gateways: frozenset[str]
    """Ids (lower case) of its own gateways that were told to take part."""


class NetWitness:
    """Countersigns rosters for one administrator.

    Args:
        name: how rosters call this administrator.
        ordered: net id (hex) -> what was ordered, None if nothing.
        trust: anchors for the signers' certificates.
        sign: signs as the administrator.
        emit: takes events.
    """

    def __init__(
        self,
        name: str,
        ordered: Callable[[str], OrderedNet | None],
        trust: Trust,
        sign: Callable[[bytes], Awaitable[bytes]],
        emit: Emit,
    ) -> None:
        self._name, self._ordered, self._trust = name, ordered, trust
        self._sign, self._emit = sign, emit
        self._first: dict[tuple[bytes, int], bytes] = {}

    async def countersign(self, net: str, body: bytes) -> bytes:
        """Answer `POST /dcnet/v1/{net}/countersign`: a signature over the EMP's very content.

        Raises:
            OrderRefused: with a code and the reason; answer 403.
        """
        try:
            content = await self._judge(net, body)
        except OrderRefused as refused:
            self._emit({"event": "refused", "what": "countersign", "net": net, "reason": str(refused)})
            raise
        self._emit({"event": "countersigned", "net": net})
        return await self._sign(content)

    async def _judge(self, net: str, body: bytes) -> bytes:
        ordered = self._ordered(net)
        if ordered is None:
            raise OrderRefused("policy", "no such net was ordered")
        try:
            rules = NetRules.from_profile(ordered.policy)
            draft = RosterDraft.from_bytes(body)
            checked = await check_signed(draft.signed, self._trust)
            roster = Roster.from_bytes(checked.content)
            opened = [await open_bundle(self._trust, bundle) for bundle in draft.bundles]
            bundles = [KeyBundle.from_bytes(data) for _, data in opened]
        except (DcNetError, MessageRefused) as error:
            raise OrderRefused("form", str(error)) from error
        if checked.signer != ordered.emp_certificate:
            raise OrderRefused("signer", "not signed by the supplier of this net")
        if roster.net != rules.net or roster.policy_hash != rules.policy_hash():
            raise OrderRefused("policy", "the roster was made for another policy than ordered")
        size = len(roster.entries)
        if not rules.n_min <= size <= min(rules.n_max, COMPLETE_UP_TO) or size != len(bundles):
            raise OrderRefused("size", f"{size} members, {len(bundles)} bundles")
        if len({gateway for gateway, _ in opened}) != size or len({one.point for one in bundles}) != size:
            raise OrderRefused("twice", "one gateway or one key stands for two members")
        for entry, (gateway, _), bundle, signed in zip(
            roster.entries, opened, bundles, draft.bundles, strict=True
        ):
            if gateway not in ordered.gateways or entry.administrator != self._name:
                raise OrderRefused("gateway", f"{gateway} is not one of ours")
            listed = (entry.pseudonym, entry.bundle_hash, entry.certificate_hash)
            shown = (bundle.pseudonym, document_hash(bundle), hashlib.sha256(signed.certificate).digest())
            if listed != shown or (bundle.net, bundle.version) != (roster.net, roster.version):
                raise OrderRefused("bundle", f"{gateway}: the entry does not fit the bundle")
        if self._first.setdefault((roster.net, roster.version), checked.content) != checked.content:
            raise OrderRefused("version", "another roster of this version was countersigned before")
        return checked.content
