"""Each check of a roster and its bundles has a test that breaks it; both ends get one key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from firmware.enforcement.dcnet.errors import MalformedObject, MembershipRefused
from firmware.enforcement.dcnet.founding import membership
from firmware.enforcement.dcnet.founding.authorisation import PeerAuthorisation
from firmware.enforcement.dcnet.founding.beacon import BeaconReveal, Nonces, beacon_of, draw
from firmware.enforcement.dcnet.founding.keyring import KeyRing
from firmware.enforcement.dcnet.founding.membership import Membership
from firmware.enforcement.dcnet.founding.roster import (
    CheckedRoster,
    check_authorisations,
    check_nonces,
    check_roster,
)
from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.manifest import EpochManifest
from firmware.enforcement.dcnet.messages.roster import (
    KeyBundle,
    Roster,
    RosterEntry,
    RosterPublication,
    SignedBundle,
)
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.primitives import graph, kdf
from firmware.enforcement.dcnet.primitives.arithmetic import prf
from hsm.api import Curve, KeySlot
from hsm.errors import CommandRefused
from tests.support.soft_module import SoftModule
from tests.unit.dcnet.fake_emp import EMP_NONCE, GWA_NONCE, NONCES
from tests.unit.dcnet.support import (
    NamedSignatures,
    administrator,
    attested_by,
    authorisation,
    rules,
    signed_by,
)
from wan.errors import SignatureRefused

TODAY = rules().epoch_of(0)


class Net:
    """Gateways gw1..gwN with modules of their own, and a roster of them."""

    def __init__(self, net_rules: NetRules) -> None:
        self.rules = net_rules
        self.modules: list[SoftModule] = []
        self.bundles: list[KeyBundle] = []
        self.signed: list[SignedBundle] = []

    @classmethod
    async def make(cls, size: int = 4, net_rules: NetRules | None = None) -> Net:
        net = cls(net_rules if net_rules is not None else rules())
        net.emp = SoftModule()
        net.emp_point = (await net.emp.generate_key_pair(KeySlot.WAN_ENC, Curve.P256)).point
        for index in range(1, size + 1):
            module, signatures = SoftModule(), NamedSignatures(f"gw{index}")
            point = (await module.generate_key_pair(KeySlot.DCNET_2, Curve.P256)).point
            commitment = BeaconReveal(net.rules.net, 1, NONCES[index - 1]).commitment
            offer = await membership.make_bundle(
                net.rules, 1, bytes([index]) * 16, point, commitment, signatures
            )
            net.modules.append(module)
            net.signed.append(offer)
            net.bundles.append(KeyBundle.from_bytes(offer.signed.partition(b"|")[2]))
        return net

    emp: SoftModule
    emp_point: bytes
    first_foreign = 99
    """From this index on members are another administrator's."""

    def roster(self) -> Roster:
        entries = tuple(
            RosterEntry(i, b.pseudonym, b.certificate_hash, "gwa", document_hash(b))
            for i, b in enumerate(self.bundles, 1)
        )
        return Roster(
            self.rules.net,
            1,
            bytes(32),
            self.rules.policy_hash(),
            self.rules.schema_hash(),
            TODAY,
            BeaconReveal(self.rules.net, 1, EMP_NONCE).commitment,
            (administrator("gwa", GWA_NONCE),),
            entries,
        )

    def nonces(self) -> Nonces:
        return Nonces(self.rules.net, 1, EMP_NONCE, (GWA_NONCE,), tuple(NONCES[: len(self.bundles)]))

    def publication(self, roster: Roster | None = None) -> RosterPublication:
        content = (self.roster() if roster is None else roster).to_bytes()
        return RosterPublication(
            signed_by("emp", content), (attested_by("gwa", content),), tuple(self.signed)
        )

    async def check(self, index: int = 1, publication: RosterPublication | None = None) -> CheckedRoster:
        return await check_roster(
            self.rules,
            self.publication() if publication is None else publication,
            self.bundles[index - 1],
            today=TODAY,
            signatures=NamedSignatures(f"gw{index}", "other" if index >= self.first_foreign else "gwa"),
        )

    async def join(
        self,
        index: int = 1,
        publication: RosterPublication | None = None,
        nonces: Nonces | None = None,
        authorised: Mapping[str, PeerAuthorisation] | None = None,
        ring: KeyRing | None = None,
    ) -> Membership:
        checked = await self.check(index, publication)
        names = [one.name for one in checked.roster.administrators]
        everybody = dict.fromkeys(names, authorisation(checked.roster, valid_until=TODAY + 500))
        return await membership.join(
            self.rules,
            checked,
            self.nonces() if nonces is None else nonces,
            everybody if authorised is None else authorised,
            module=self.modules[index - 1],
            key_slot=KeySlot.DCNET_2,
            emp_point=self.emp_point,
            rings=None if ring is None else (ring, None),
        )


async def test_i7_both_ends_and_the_supplier_derive_the_same_keys() -> None:
    net = await Net.make()
    members = [await net.join(index) for index in range(1, 5)]
    for epoch in (TODAY, TODAY + 3):
        views = [member.view(epoch) for member in members]
        for a in range(1, 5):
            for b in range(a + 1, 5):
                low, high = views[a - 1].edges[b], views[b - 1].edges[a]
                assert low.output(bytes(32), 7, 0, 24) == high.output(bytes(32), 7, 0, 24)
    secret = await net.emp.agree(KeySlot.WAN_ENC, net.bundles[2].point)
    assert members[2].mac_key == kdf.mac_key(secret, document_hash(net.roster()), net.rules.net, 1)
    assert members[2].mac_key.hex() not in repr(members[2])


async def test_a_bundle_whose_key_is_gone_joins_no_roster() -> None:
    """Another net was given the key slot in between: pads under the new key would cancel with nobody's."""
    net = await Net.make()
    await net.modules[0].generate_key_pair(KeySlot.DCNET_2, Curve.P256)
    with pytest.raises(MembershipRefused, match="no longer in the module"):
        await net.join()


async def test_the_first_epoch_uses_the_first_chain_key() -> None:
    net = await Net.make()
    member = await net.join()
    secret = await net.modules[1].agree(KeySlot.DCNET_2, net.bundles[0].point)
    root = kdf.edge_root(secret, document_hash(net.roster()), b"\1" * 16, b"\2" * 16)
    chain = kdf.chain_start(root, net.rules.net)
    for epoch in (TODAY, TODAY + 1):
        expected = kdf.epoch_key(chain, net.rules.net, epoch)
        assert member.view(epoch).edges[2].output(bytes(32), 1, 0, 8) == prf(expected, bytes(32), 1, 0, 8)
        chain = kdf.chain_next(chain, net.rules.net)


async def test_i19_keys_of_an_earlier_epoch_are_gone() -> None:
    member = await (await Net.make()).join()
    member.view(TODAY + 2)
    with pytest.raises(MembershipRefused, match="erased"):
        member.view(TODAY + 1)
    with pytest.raises(MembershipRefused, match="too far"):
        member.view(TODAY + 401)


def _entry(position: int, **changes: object) -> Callable[[Roster], Roster]:
    def change(roster: Roster) -> Roster:
        entries = list(roster.entries)
        entries[position] = replace(entries[position], **changes)  # type: ignore[arg-type]
        return replace(roster, entries=tuple(entries))

    return change


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda r: replace(r, net=bytes(8)), "net"),
        (lambda r: replace(r, version=2), "net"),
        (lambda r: replace(r, policy_hash=bytes(32)), "policy"),
        (lambda r: replace(r, schema_hash=bytes(32)), "policy"),
        (lambda r: replace(r, entries=r.entries[:2]), "size"),
        (lambda r: replace(r, entries=r.entries[:3]), "degree"),
        (lambda r: replace(r, first_epoch=0), "epoch"),
        (lambda r: replace(r, first_epoch=TODAY + 2), "epoch"),
        (_entry(1, pseudonym=b"\1" * 16), "twice"),
        (_entry(1, certificate_hash=hashlib.sha256(b"certificate of gw1").digest()), "twice"),
        (_entry(0, bundle_hash=bytes(32)), "absent"),
        (_entry(1, bundle_hash=bytes(32)), "bundle"),
        (_entry(1, pseudonym=b"\x77" * 16), "bundle"),
        (_entry(1, certificate_hash=bytes(32)), "certificate"),
    ],
)
async def test_a_roster_with_a_fault_is_refused(change: Callable[[Roster], Roster], code: str) -> None:
    strict = rules() if code != "degree" else rules(n_min=3, d_min=2)
    net = await Net.make(4, strict)
    with pytest.raises(MembershipRefused) as caught:
        await net.join(1, net.publication(change(net.roster())))
    assert caught.value.code == code


async def test_countersignature_is_required_and_over_the_same_content() -> None:
    net = await Net.make()
    good = net.publication()
    other = attested_by("gwa", replace(net.roster(), version=9).to_bytes())
    for countersigned in ((), (other,), (*good.countersigned, other)):
        with pytest.raises(MembershipRefused) as caught:
            await net.join(1, replace(good, countersigned=countersigned))
        assert caught.value.code == "countersignature"
    content = net.roster().to_bytes()
    for wrong in (
        replace(good, signed=signed_by("gwa", content)),
        replace(good, countersigned=(replace(good.countersigned[0], signed=signed_by("emp", content)),)),
        replace(
            good, bundles=(good.bundles[0], replace(good.bundles[1], signed=b"gw3|x"), *good.bundles[2:])
        ),
    ):
        with pytest.raises(SignatureRefused):
            await net.join(1, wrong)


async def test_bundles_must_be_whole_and_keys_different() -> None:
    net = await Net.make()
    with pytest.raises(MembershipRefused, match="bundles"):
        await net.join(1, replace(net.publication(), bundles=tuple(net.signed[:3])))
    stolen = replace(net.bundles[3], point=net.bundles[1].point)
    net.bundles[3] = stolen
    net.signed[3] = SignedBundle(b"certificate of gw4", signed_by("gw4", stolen.to_bytes()))
    with pytest.raises(MembershipRefused, match="one key"):
        await net.join(1, net.publication())


async def test_a_bundle_for_another_net_is_refused() -> None:
    net = await Net.make()
    net.bundles[3] = replace(net.bundles[3], version=2)
    net.signed[3] = SignedBundle(b"certificate of gw4", signed_by("gw4", net.bundles[3].to_bytes()))
    with pytest.raises(MembershipRefused, match="something else"):
        await net.join(1, net.publication())


async def test_a_point_off_the_curve_is_refused_by_the_module() -> None:
    net = await Net.make()
    net.bundles[3] = replace(net.bundles[3], point=b"\4" + b"\1" * 64)
    net.signed[3] = SignedBundle(b"certificate of gw4", signed_by("gw4", net.bundles[3].to_bytes()))
    with pytest.raises((CommandRefused, ValueError)):
        await net.join(1, net.publication())


def _two_administrators(net: Net, first: int = 3) -> Roster:
    """Members from `first` on are another administrator's."""
    roster, net.first_foreign = net.roster(), first
    entries = [replace(e, administrator="gwa" if e.index < first else "other") for e in roster.entries]
    vouching = (administrator("gwa", GWA_NONCE), administrator("other", OTHER_NONCE))
    return replace(roster, administrators=vouching, entries=tuple(entries))


OTHER_NONCE = b"\xbb" * 32


async def test_every_administrator_of_the_roster_signs_it() -> None:
    net = await Net.make()
    roster = _two_administrators(net)
    content = roster.to_bytes()
    ours, theirs = attested_by("gwa", content), attested_by("other", content)
    good = replace(net.publication(roster), countersigned=(ours, theirs))
    nonces = replace(net.nonces(), administrators=(GWA_NONCE, OTHER_NONCE))
    views = [(await net.join(index, good, nonces)).view(TODAY) for index in (1, 2)]
    assert views[0].edges[2].output(bytes(32), 7, 0, 24) == views[1].edges[1].output(bytes(32), 7, 0, 24)
    for countersigned in (
        (ours,),
        (theirs,),
        (theirs, ours),
        (ours, attested_by("other", net.roster().to_bytes())),
        (ours, replace(theirs, certificate=ours.certificate)),
    ):
        with pytest.raises(MembershipRefused) as caught:
            await net.join(1, replace(good, countersigned=countersigned), nonces)
        assert caught.value.code == "countersignature"
    for name in ("other", "emp"):  # ours counts with the pinned key only, whoever the certificate names
        forged = replace(ours, signed=signed_by(name, content))
        with pytest.raises(SignatureRefused):
            await net.join(1, replace(good, countersigned=(forged, theirs)), nonces)


async def test_an_edge_needs_the_authorisation_of_both_ends() -> None:
    """Five members, 4 and 5 of another administrator, which refuses member 1."""
    net = await Net.make(5)
    roster = _two_administrators(net, 4)
    content = roster.to_bytes()
    vouched = (attested_by("gwa", content), attested_by("other", content))
    publication = replace(net.publication(roster), countersigned=vouched)
    nonces = replace(net.nonces(), administrators=(GWA_NONCE, OTHER_NONCE))
    whole = authorisation(roster)
    for refusing, least in ((1, 2), (4, 1)):  # whichever end refuses, the edge is gone at both
        authorised = {"gwa": whole, "other": whole}
        authorised["other" if refusing == 1 else "gwa"] = replace(
            whole, peers=tuple(peer for peer in whole.peers if peer[0] != refusing)
        )
        for index in range(1, 6):
            if index == refusing:
                with pytest.raises(MembershipRefused) as caught:
                    await net.join(index, publication, nonces, authorised)
                assert caught.value.code == "degree"
                assert f"{least} neighbours" in str(caught.value)
                continue
            member = await net.join(index, publication, nonces, authorised)
            adjacent = member.view(TODAY).adjacent
            for other in range(1, 6):
                foreign = {1: {4, 5}, 4: {1, 2, 3}}[refusing]
                hidden = other in foreign if index == refusing else (other == refusing and index in foreign)
                assert (other in adjacent[index]) == (other != index and not hidden)
            assert adjacent.keys() == set(range(1, 6))
            assert member.view(TODAY).edges.keys() == adjacent[index]
    # Another certificate under the same index is another member.
    foreign_peers = ((1, bytes(32)), *whole.peers[1:])
    authorised = {"gwa": whole, "other": replace(whole, peers=foreign_peers)}
    with pytest.raises(MembershipRefused, match="2 neighbours"):
        await net.join(1, publication, nonces, authorised)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"net": bytes(8)}, "another roster"),
        ({"version": 2}, "another roster"),
        ({"roster_hash": bytes(32)}, "another roster"),
        ({"valid_until": TODAY - 1}, "over since"),
    ],
)
async def test_an_authorisation_of_something_else_is_refused(changes: dict[str, object], code: str) -> None:
    net = await Net.make()
    checked, signatures = await net.check(), NamedSignatures("gw1")
    good = authorisation(checked.roster)
    assert await check_authorisations(checked, [attested_by("gwa", good.to_bytes())], TODAY, signatures) == {
        "gwa": good
    }
    wrong = replace(good, **changes)  # type: ignore[arg-type]
    with pytest.raises(MembershipRefused, match=code):
        await check_authorisations(checked, [attested_by("gwa", wrong.to_bytes())], TODAY, signatures)


async def test_an_authorisation_is_each_administrators_own() -> None:
    net = await Net.make()
    checked, signatures = await net.check(), NamedSignatures("gw1")
    content = authorisation(checked.roster).to_bytes()
    ours = attested_by("gwa", content)
    for attested in ([], [ours, ours], [attested_by("other", content)]):
        with pytest.raises(MembershipRefused) as caught:
            await check_authorisations(checked, attested, TODAY, signatures)
        assert caught.value.code == "authorisation"
    with pytest.raises(SignatureRefused):
        await check_authorisations(
            checked, [replace(ours, signed=signed_by("emp", content))], TODAY, signatures
        )


async def test_pads_end_with_the_authorisation() -> None:
    net = await Net.make()
    member = await net.join(1, None, None, {"gwa": authorisation(net.roster(), valid_until=TODAY + 1)})
    member.view(TODAY + 1)
    with pytest.raises(MembershipRefused, match="authorised until"):
        member.view(TODAY + 2)


async def test_two_parties_with_one_commitment_are_refused() -> None:
    net = await Net.make()
    roster = net.roster()
    for copied in (
        replace(roster, emp_commitment=net.bundles[2].commitment),
        replace(roster, emp_commitment=roster.administrators[0].commitment),
    ):
        with pytest.raises(MembershipRefused, match="one commitment"):
            await net.check(1, net.publication(copied))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda n: replace(n, net=bytes(8)), "beacon"),
        (lambda n: replace(n, version=2), "beacon"),
        (lambda n: replace(n, administrators=()), "beacon"),
        (lambda n: replace(n, members=n.members[:3]), "beacon"),
        (lambda n: replace(n, members=(*n.members, bytes(32))), "beacon"),
        (lambda n: replace(n, emp=bytes(32)), "reveal"),
        (lambda n: replace(n, administrators=(bytes(32),)), "reveal"),
        (lambda n: replace(n, members=(n.members[1], n.members[0], *n.members[2:])), "reveal"),
    ],
)
async def test_a_nonce_that_was_not_committed_to_draws_no_graph(
    change: Callable[[Nonces], Nonces], code: str
) -> None:
    net = await Net.make()
    check_nonces(await net.check(), net.nonces())
    with pytest.raises(MembershipRefused) as caught:
        await net.join(1, None, change(net.nonces()))
    assert caught.value.code == code


async def test_the_beacon_depends_on_roster_and_every_nonce() -> None:
    net = await Net.make()
    good, roster_hash = net.nonces(), document_hash(net.roster())
    leaves = [hashlib.sha256(b"\0" + nonce).digest() for nonce in good.members]
    pairs = [hashlib.sha256(b"\1" + leaves[i] + leaves[i + 1]).digest() for i in (0, 2)]
    root = hashlib.sha256(b"\1" + pairs[0] + pairs[1]).digest()
    assert beacon_of(roster_hash, good) == hashlib.sha256(roster_hash + EMP_NONCE + GWA_NONCE + root).digest()
    changed = [
        beacon_of(bytes(32), good),
        beacon_of(roster_hash, replace(good, emp=bytes(32))),
        beacon_of(roster_hash, replace(good, administrators=(bytes(32),))),
        *(
            beacon_of(
                roster_hash, replace(good, members=(*good.members[:i], bytes(32), *good.members[i + 1 :]))
            )
            for i in range(4)
        ),
    ]
    assert len({*changed, beacon_of(roster_hash, good)}) == 8


async def test_a_large_net_has_a_sparse_graph_that_the_beacon_draws() -> None:
    """66 members, k = 16, d_min = 6: everybody agrees with its neighbours only, and on the same graph."""
    sparse = replace(rules(n_min=16, d_min=6), degree=16)
    net = await Net.make(66, sparse)
    one = await net.join(1)
    edges = draw(sparse, 66, beacon_of(document_hash(net.roster()), net.nonces()))
    view = one.view(TODAY)
    assert set(view.edges) == {b if a == 1 else a for a, b in edges if 1 in (a, b)}
    assert 8 <= len(view.edges) <= 16
    peer = min(view.edges)
    other = (await net.join(peer)).view(TODAY)
    assert other.adjacent == view.adjacent
    assert other.edges[1].output(bytes(32), 7, 0, 24) == view.edges[peer].output(bytes(32), 7, 0, 24)


def test_a_beacon_is_redrawn_until_the_degrees_suffice() -> None:
    sparse = replace(rules(n_min=16, d_min=9), degree=16)
    for beacon in (bytes([n]) * 32 for n in range(8)):
        edges = draw(sparse, 80, beacon)
        assert graph.lowest_degree(range(1, 81), edges) >= 11
        tried = [beacon] + [hashlib.sha256(beacon + n.to_bytes(4, "big")).digest() for n in range(1, 64)]
        first = next(
            b for b in tried if graph.lowest_degree(range(1, 81), graph.h_graph(range(1, 81), 16, b)) >= 11
        )
        assert edges == graph.h_graph(range(1, 81), 16, first)
    with pytest.raises(MembershipRefused) as caught:
        draw(replace(sparse, d_min=14), 80, bytes(32))
    assert caught.value.code == "degree"


def test_a_member_takes_no_part_with_too_few_neighbours_or_in_too_small_a_part() -> None:
    floor = rules(n_min=5, d_min=1)
    five = graph.complete_graph(range(1, 6))
    assert membership.check_graph(floor, 1, five)[1] == {2, 3, 4, 5}
    for edges, code in (
        ({edge for edge in five if 1 not in edge} | {(1, 2), (1, 3)}, "degree"),
        ({edge for edge in five if 1 not in edge}, "degree"),
        (graph.complete_graph(range(1, 5)) | graph.complete_graph(range(5, 9)), "component"),
    ):
        with pytest.raises(MembershipRefused) as caught:
            membership.check_graph(floor, 1, edges)
        assert caught.value.code == code


@pytest.mark.parametrize(
    "changes",
    [
        {"net": bytes(8)},
        {"version": 2},
        {"roster_hash": bytes(32)},
        {"epoch": TODAY + 1},
        {"first_slot": (1 << 32) - 1},
        {"first_slot": 1 << 20},
    ],
)
async def test_an_epoch_manifest_of_something_else_is_refused(changes: dict[str, object]) -> None:
    net = await Net.make()
    member = await net.join()
    good = EpochManifest(net.rules.net, 1, member.roster_hash, TODAY, 3, to_bitmap([1, 2], 4))
    member.check_epoch(good, TODAY)
    with pytest.raises(MembershipRefused):
        member.check_epoch(replace(good, **changes), TODAY)  # type: ignore[arg-type]
    with pytest.raises(MalformedObject):
        member.check_epoch(replace(good, present=b"\xff"), TODAY)
