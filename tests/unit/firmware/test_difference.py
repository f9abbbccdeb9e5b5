"""What a set of profiles changes: named with its place, and without a key."""

from __future__ import annotations

from msgspec.structs import replace

from firmware.profile.difference import Field, Kind, difference, summary
from firmware.profile.model import ProfileSet
from tests.unit.firmware.profile_set import OTHER_TLS, billing, household, meter_profile, net, peer, series

KEY, OTHER = "00" * 16, "11" * 16


def test_the_same_set_changes_nothing():
    assert difference(household(), household()) == ()
    assert summary(()) == "no change"


def test_what_comes_and_goes_is_named_with_whom_it_concerns():
    before = ProfileSet(meters=(meter_profile(),))
    after = ProfileSet(meters=(meter_profile(id="gas", consumer="neighbour"),), processing=(series(),))
    changes = difference(before, after)
    assert summary(changes) == "+meters/gas -meters/meter +processing/series"
    assert [sorted(one.consumers) for one in changes] == [["neighbour"], ["household"], ["household"]]
    assert all(one.fields == () for one in changes)


def test_a_communication_profile_concerns_whose_values_it_sends_on_both_sides():
    before = household()
    moved = tuple(replace(one, consumer="new tenant") for one in before.processing)
    after = replace(before, processing=moved, communication=(billing(purpose="billing", peer=peer(port=1)),))
    found = {one.identity: one for one in difference(before, after)}
    assert found["billing"].consumers == {"household", "new tenant"}
    assert found["total"].kind is Kind.REMOVED


def test_each_changed_place_is_told():
    before = household()
    concealed = replace(before.communication[1], net=net(slot_s=1800, n_min=200))
    (change,) = difference(before, replace(before, communication=(before.communication[0], concealed)))
    assert change.fields == (Field("net.n_min", 128, 200), Field("net.slot_s", 900, 1800))


def test_keys_are_not_told_and_certificates_by_their_digest():
    def of(key: str) -> ProfileSet:
        return ProfileSet(meters=(meter_profile(key_hex=key),))

    for before, after, told in (
        ("", KEY, ("none", "one")),
        (KEY, "", ("one", "none")),
        (KEY, OTHER, ("one", "another")),
    ):
        (change,) = difference(of(before), of(after))
        assert change.fields == (Field("key_hex", *told),)
    mine, others = household(), household(communication=(billing(peer=peer(tls_certificate=OTHER_TLS)),))
    fields = {field.place: field for change in difference(mine, others) for field in change.fields}
    assert str(fields["peer.tls_certificate"].after).startswith("sha256:")
    assert "BEGIN" not in str(fields)
