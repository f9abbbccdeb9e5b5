"""The administrator's side of a DC-net: commits, countersigns a roster with its own gateways, reveals.

Shares the codecs of the product and none of its checks.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from typing import Final

from firmware.enforcement.dcnet.errors import DcNetError
from firmware.enforcement.dcnet.founding.authorisation import PeerAuthorisation
from firmware.enforcement.dcnet.founding.beacon import NONCE_BYTES, BeaconCommit, BeaconReveal
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.roster import (
    Administrator,
    Attestation,
    KeyBundle,
    Roster,
    RosterDraft,
)
from firmware.enforcement.dcnet.policy import NetRules
from tools.counterparts.messages import MessageRefused, Trust, check_signed
from tools.counterparts.net_blame import FaultKeeper
from tools.counterparts.net_cosigning import Cosigner
from tools.counterparts.net_keys import open_bundle
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.net_succession import check_next, keep_names, newest_of, revoked_peers, withdrawal
from tools.counterparts.server import Emit
from wan.errors import OrderRefused

AUTHORISED_EPOCHS: Final = 400
"""Peers are authorised for so many days from a roster's first, as long as members believe a roster."""
MOST_DRAFTS: Final = 1000
"""So many drafts in a row may come to nothing; a nonce is kept for each that was asked for."""


class NetWitness:
    """Founds nets for one administrator.

    Args:
        name: how rosters call this administrator.
        certificate: DER of its SIG certificate.
        ordered: net id (hex) -> what was ordered, None if nothing.
        trust: anchors for the signers' certificates.
        sign: signs as the administrator.
        emit: takes events.
        kept: outlives this process, or a supplier could wait for a restart: the nonce and the one
            roster of each version.
        partners: other administrators whose gateways may be in a roster with ours.
        refused_peers: gateway ids (lower case) that no gateway of ours shares a key with.
        now_utc: our clock.
    """

    def __init__(
        self,
        name: str,
        certificate: bytes,
        ordered: Callable[[str], OrderedNet | None],
        trust: Trust,
        sign: Callable[[bytes], Awaitable[bytes]],
        emit: Emit,
        *,
        kept: MutableMapping[str, bytes],
        partners: frozenset[str] = frozenset(),
        refused_peers: frozenset[str] = frozenset(),
        now_utc: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._now_utc = now_utc
        self._name, self._certificate = name, certificate
        self._ordered, self._trust = ordered, trust
        self._sign, self._emit = sign, emit
        self._kept, self._partners, self._refused = kept, partners, refused_peers
        self._cosigner = Cosigner(ordered, trust, kept)
        self._faults = FaultKeeper(ordered, trust, kept, emit)

    async def cosign(self, net: str, body: bytes) -> bytes:
        """Answer `POST /dcnet/v1/{net}/cosign`: an `Attestation` of a manifest's or an order's content.

        Raises:
            OrderRefused: with a code and the reason; answer 403.
        """
        try:
            return await self._attest(await self._cosigner.judge(net, body))
        except OrderRefused as refused:
            raise self._refusal("cosign", net, refused) from None

    async def faults(self, net: str, body: bytes) -> bytes:
        """Answer `POST /dcnet/v1/{net}/faults`: what an audit brought is judged again and kept.

        Raises:
            OrderRefused: with a code and the reason; answer 403.
        """
        try:
            return await self._faults.take(net, body)
        except OrderRefused as refused:
            raise self._refusal("faults", net, refused) from None

    async def commit(self, net: str, version: int) -> bytes:
        """Answer `POST /dcnet/v1/{net}/commit/{version}`: an `Attestation` of our `BeaconCommit`.

        Raises:
            OrderRefused: with a code and the reason; answer 403.
        """
        if self._ordered(net) is None:
            raise self._refusal("commit", net, OrderRefused("policy", "no such net was ordered"))
        # A draft that was never countersigned, by us or by another, uses its number up.
        newest = newest_of(self._kept, net, "roster")
        if f"roster-{net}-{version}" not in self._kept and not newest < version <= newest + MOST_DRAFTS:
            raise self._refusal("commit", net, OrderRefused("version", f"the newest roster is {newest}"))
        commit = BeaconCommit(bytes.fromhex(net), version, self._reveal_of(net, version).commitment)
        return await self._attest(commit.to_bytes())

    async def countersign(self, net: str, body: bytes) -> bytes:
        """Answer `POST /dcnet/v1/{net}/countersign`: an `Attestation` of the EMP's very content.

        Raises:
            OrderRefused: with a code and the reason; answer 403.
        """
        try:
            content = await self._judge(net, body)
        except OrderRefused as refused:
            self._refusal("countersign", net, refused)
            raise
        self._emit({"event": "countersigned", "net": net})
        return await self._attest(content)

    async def reveal(self, net: str, version: int) -> bytes:
        """Answer `POST /dcnet/v1/{net}/reveal/{version}`: our `BeaconReveal`, once the roster is fixed.

        Raises:
            OrderRefused: no roster of this version was countersigned; answer 403.
        """
        if f"roster-{net}-{version}" not in self._kept:
            raise self._refusal("reveal", net, OrderRefused("roster", "no roster was countersigned"))
        return self._reveal_of(net, version).to_bytes()

    def _reveal_of(self, net: str, version: int) -> BeaconReveal:
        name = f"nonce-{net}-{version}"
        if name not in self._kept:
            self._kept[name] = secrets.token_bytes(NONCE_BYTES)
        return BeaconReveal(bytes.fromhex(net), version, self._kept[name])

    async def authorise(self, net: str, version: int) -> bytes:
        """Answer `POST /dcnet/v1/{net}/authorise/{version}`: an `Attestation` of our `PeerAuthorisation`.

        Raises:
            OrderRefused: no roster of this version was countersigned; answer 403.
        """
        if (content := self._kept.get(f"peers-{net}-{version}")) is None:
            raise self._refusal("authorise", net, OrderRefused("roster", "no roster was countersigned"))
        self._kept[f"given-{net}-{version}"] = b"\1"
        return await self._attest(content)

    async def revoked(self, net: str) -> bytes:
        """Answer `POST /dcnet/v1/{net}/revoke`: an `Attestation` of the newest `PeerWithdrawal`.

        Raises:
            OrderRefused: no such net was ordered; answer 403.
        """
        ordered = self._ordered(net)
        if ordered is None:
            raise self._refusal("revoke", net, OrderRefused("policy", "no such net was ordered"))
        refused = self._refused | revoked_peers(self._kept, net)
        given = withdrawal(self._kept, net, self._name, ordered.gateways, refused)
        return await self._attest(given.to_bytes())

    async def _attest(self, content: bytes) -> bytes:
        return Attestation(self._certificate, await self._sign(content)).to_bytes()

    def _refusal(self, what: str, net: str, refused: OrderRefused) -> OrderRefused:
        self._emit({"event": "refused", "what": what, "net": net, "reason": str(refused)})
        return refused

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
        if not rules.n_min <= size <= rules.n_max or size != len(bundles):
            raise OrderRefused("size", f"{size} members, {len(bundles)} bundles")
        if len({gateway for gateway, _ in opened}) != size or len({one.point for one in bundles}) != size:
            raise OrderRefused("twice", "one gateway or one key stands for two members")
        for entry, (gateway, _), bundle, signed in zip(
            roster.entries, opened, bundles, draft.bundles, strict=True
        ):
            if (gateway in ordered.gateways) != (entry.administrator == self._name):
                raise OrderRefused("gateway", f"{gateway} is not {entry.administrator}'s")
            if entry.administrator not in {self._name, *self._partners}:
                raise OrderRefused("partner", f"{entry.administrator} is not known to us")
            listed = (entry.pseudonym, entry.bundle_hash, entry.certificate_hash)
            shown = (bundle.pseudonym, document_hash(bundle), hashlib.sha256(signed.certificate).digest())
            if listed != shown or (bundle.net, bundle.version) != (roster.net, roster.version):
                raise OrderRefused("bundle", f"{gateway}: the entry does not fit the bundle")
        own = Administrator(
            self._name,
            hashlib.sha256(self._certificate).digest(),
            self._reveal_of(net, roster.version).commitment,
        )
        if own not in roster.administrators:
            raise OrderRefused("commitment", "the roster holds another commitment or certificate of ours")
        if f"roster-{net}-{roster.version}" not in self._kept:
            check_next(self._kept, net, rules, roster, self._now_utc())
        if faulty := {gateway for gateway, _ in opened} & self._faults.excluded(net):
            raise OrderRefused("excluded", f"{', '.join(sorted(faulty))}: an audit has excluded it")
        refused = self._refused | revoked_peers(self._kept, net)
        strangers = {gateway for gateway, _ in opened} & refused
        peers = tuple(
            (entry.index, entry.certificate_hash)
            for entry, (gateway, _) in zip(roster.entries, opened, strict=True)
            if gateway not in strangers
        )
        until = roster.first_epoch + AUTHORISED_EPOCHS
        given = PeerAuthorisation(roster.net, roster.version, document_hash(roster), until, peers)
        known = self._kept.get(f"roster-{net}-{roster.version}")
        if known is None:  # the roster last: it stands for the others, which a kill may have left without it
            self._kept.pop(f"names-{net}-{roster.version}", None)
            keep_names(self._kept, net, roster, [gateway for gateway, _ in opened], self._now_utc())
            self._kept[f"peers-{net}-{roster.version}"] = given.to_bytes()
            self._kept[f"roster-{net}-{roster.version}"] = checked.content
        elif known != checked.content:
            raise OrderRefused("version", "another roster of this version was countersigned before")
        return checked.content
