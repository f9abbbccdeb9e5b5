"""Members lost after the manifest: recovered under one witnessed order, after every check."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.enforcement.dcnet.errors import (
    Equivocation,
    NetRefused,
    ReleaseOfShareRefused,
    UnexpectedStep,
)
from firmware.enforcement.dcnet.messages.documents import to_bitmap
from firmware.enforcement.dcnet.messages.faults import RecoveryOrder
from firmware.enforcement.dcnet.messages.frames import Frame, FrameType, digest
from firmware.enforcement.dcnet.policy import NetRules, Recovery
from firmware.enforcement.dcnet.primitives import arithmetic, graph, merkle
from firmware.enforcement.dcnet.slot.round import Round
from tests.unit.dcnet.support import rules
from tests.unit.dcnet.whole_net import Net
from tools.counterparts.net_recovery import SlotWitness, opening_of, order_for, recoverable


def witnessed(**changes: object) -> NetRules:
    made = rules(n_min=4, d_min=3, delta=0.45)
    return replace(made, recovery=Recovery.WITNESS, holders=5, threshold=3, **changes)  # type: ignore[arg-type]


def net_of(size: int = 9, **changes: object) -> Net:
    return Net(witnessed(**changes), size, graph.complete_graph(range(1, size + 1)))


def readings(size: int) -> dict[int, arithmetic.Lanes]:
    return {i: (10 * i, i % 3, 1) for i in range(1, size + 1)}


@settings(max_examples=60)
@given(st.integers(6, 12), st.sets(st.integers(1, 12), max_size=2), st.sampled_from([0, 20]))
def test_the_total_is_right_although_accepted_members_are_lost(
    size: int, lost: set[int], degree: int
) -> None:
    net = net_of(size) if degree == 0 else Net(witnessed(), 24, graph.h_graph(range(1, 25), degree, b"r"))
    values = readings(net.size)
    net.submit(values)
    net.close()
    net.open(lost & values.keys())
    recovered = net.recover(lost & values.keys()) if lost & values.keys() else {}
    assert recovered is not None
    assert net.total(recovered) == arithmetic.add(*values.values())
    for index, opening in recovered.items():  # exactly what the member itself would have opened
        net.rounds[index].consider(net.manifest, net.path(index))  # type: ignore[arg-type]
        assert Frame.from_bytes(net.rounds[index].open()).lanes == opening


def after_manifest(lost: set[int], *, accepted: set[int] | None = None, **changes: object) -> Net:
    net = net_of(**changes)
    net.submit(readings(net.size))
    net.close(accepted)
    net.open(lost)
    return net


def refused(net: Net, order: RecoveryOrder, owner: int, holder: int = 1, **kwargs: object) -> str:
    body = kwargs.get("body", net.bodies[owner])
    path = kwargs["path"] if "path" in kwargs else net.path(owner)
    with pytest.raises(ReleaseOfShareRefused) as caught:
        net.rounds[holder].release(order, owner, body, path)  # type: ignore[arg-type]
    return caught.value.code


def test_each_check_before_a_share_is_given() -> None:
    net = after_manifest({8, 9})
    order = net.order({8})
    assert refused(net, replace(order, manifest_hash=bytes(32)), 8) == "manifest"
    assert refused(net, replace(order, slot=5), 8) == "manifest"
    assert refused(net, replace(order, net=bytes(8)), 8) == "manifest"
    assert refused(net, replace(order, version=2), 8) == "manifest"
    assert refused(net, replace(order, lost=bytes(9)), 8) == "form"
    assert refused(net, net.order(set()), 8) == "accepted"
    assert refused(net, net.order({5, 8, 9}), 8) == "f-max"
    assert refused(net, order, 9) == "not-lost"
    assert refused(after_manifest({8}), net.order({1}), 1) == "not-lost"
    net = after_manifest({8, 9})
    assert refused(net, order, 8, body=net.bodies[9]) == "leaf"
    assert refused(net, order, 8, path=net.path(7)) == "leaf"
    assert refused(net, order, 8, holder=8) == "state"  # has not opened itself
    assert refused(net, order, 8, holder=6) == "no-share"  # the five with the smallest indices hold them
    assert (
        Frame.from_bytes(net.rounds[1].release(order, 8, net.bodies[8], net.path(8))).type is FrameType.SHARE
    )


def test_nobody_is_recovered_whose_neighbour_was_left_out() -> None:
    """Its b is not its r then: with both, a pad towards the missing member would be known."""
    net = after_manifest({9}, accepted=set(range(1, 10)) - {4})
    assert refused(net, net.order({9}), 9) == "absent-neighbour"
    assert net.recover({9}) is None
    assert not recoverable({9}, {4}, net.views[1].adjacent, 2)


def test_members_that_were_not_accepted_are_not_recovered() -> None:
    net = after_manifest(set(), accepted=set(range(1, 10)) - {4})
    assert refused(net, net.order({4}), 4, path=()) == "accepted"


def test_no_share_goes_out_under_a_second_order() -> None:
    net = after_manifest({8, 9})
    first = net.order({8})
    net.rounds[1].release(first, 8, net.bodies[8], net.path(8))
    net.rounds[1].release(first, 8, net.bodies[8], net.path(8))
    with pytest.raises(Equivocation) as caught:
        net.rounds[1].release(net.order({9}), 9, net.bodies[9], net.path(9))
    assert caught.value.proof == (first.to_bytes(), net.order({9}).to_bytes())


def test_a_net_without_recovery_gives_no_share_and_deals_none() -> None:
    net = Net(rules(n_min=4, d_min=3), 6, graph.complete_graph(range(1, 7)))
    net.submit(readings(6))
    net.close()
    net.open({6})
    assert Frame.from_bytes(net.bodies[1]).shares == ()
    assert refused(net, net.order({6}), 6) == "recovery"


def test_a_submission_without_fresh_coefficients_is_refused() -> None:
    net = net_of()
    current = Round(net.views[1], net.head)
    with pytest.raises(UnexpectedStep, match="deals shares"):
        current.submit((1, 0, 1), b"s" * 16)


def test_too_few_present_neighbours_deal_no_shares() -> None:
    net = net_of()
    net.head = replace(net.head, present=frozenset({1, 2, 3}))
    net.submit(readings(3))
    assert Frame.from_bytes(net.bodies[1]).shares == ()


def test_a_frame_that_is_another_member_s_is_no_submission_of_the_lost_one() -> None:
    """The supplier may put any leaf under its root; the frame itself must say whose it is."""
    net = net_of()
    net.submit(readings(9))
    net.bodies[8] = net.bodies[9]
    net.close()
    net.open({8, 9})
    assert refused(net, net.order({8}), 8) == "form"
    garbage = b"no frame"
    net = net_of()
    net.submit(readings(9))
    net.bodies[8] = garbage
    net.close()
    net.open({8, 9})
    assert net.path(8) == merkle.path([digest(net.bodies[i]) for i in net.accepted], 7)
    assert refused(net, net.order({8}), 8) == "form"


def test_too_few_or_wrong_shares_do_not_become_an_opening() -> None:
    net = after_manifest({9})
    order = net.order({9})
    dealt = Frame.from_bytes(net.bodies[9]).shares
    given = {
        holder: Frame.from_bytes(net.rounds[holder].release(order, 9, net.bodies[9], net.path(9))).shares[0][
            1
        ]
        for holder, _ in dealt
    }
    right = opening_of(dealt, given, 3, 0, 3)
    assert right is not None
    assert opening_of(dealt, dict(list(given.items())[:2]), 3, 0, 3) is None
    assert opening_of(dealt, given | {dealt[0][0]: bytes(16)}, 3, 0, 3) == right  # one of five is outvoted
    wrong = {dealt[0][0]: bytes(16), dealt[1][0]: b"w" * 16}
    assert opening_of(dealt, given | wrong, 3, 0, 3) is None


def test_the_witness_signs_one_manifest_and_one_order() -> None:
    witness = SlotWitness()
    order = order_for(bytes(8), 1, 5, b"m" * 32, {1}, 8)
    assert not witness.order(order)  # no manifest yet
    assert witness.manifest(5, b"m" * 32)
    assert witness.manifest(5, b"m" * 32)
    assert not witness.manifest(5, b"n" * 32)
    assert not witness.order(replace(order, manifest_hash=b"n" * 32))
    assert witness.order(order)
    assert witness.order(order)
    assert not witness.order(replace(order, lost=to_bitmap({2}, 8)))
    assert not witness.manifest(5, b"n" * 32)
    assert witness.manifest(6, b"n" * 32)


@pytest.mark.parametrize(
    "change",
    [{"threshold": 1}, {"threshold": 6}, {"holders": 256, "threshold": 3}, {"threshold": 4}, {"f_max": 0}],
)
def test_rules_of_recovery_that_contradict_themselves_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(NetRefused):
        replace(witnessed(), **change).check()
    witnessed().check()


def test_frames_with_shares_come_back() -> None:
    net = after_manifest({9})
    frame = Frame.from_bytes(net.bodies[9])
    assert len(net.bodies[9]) == 64 + 3 * 8 + 5 * 20
    assert frame.to_bytes() == net.bodies[9]
    assert "shares" not in repr(frame)


def test_recovery_of_a_profile_is_taken_over_with_its_deadline() -> None:
    made = rules(recovery="witness", recover_s=1.95, n_min=7, d_min=5)
    assert (made.recovery, made.recover_ms) == (Recovery.WITNESS, 1950)
    assert made.final_until(3) > made.open_until(3)
    assert rules().final_until(3) == rules().open_until(3)
    assert made.policy_hash() != rules(recovery="witness", recover_s=2.0, n_min=7, d_min=5).policy_hash()
    assert rules().policy_hash() != rules(reconcile_slots=7).policy_hash()
    for late in (1.9, 2.1):  # not after D3, not within the slot
        with pytest.raises(NetRefused, match="D4"):
            rules(recovery="witness", recover_s=late, n_min=7, d_min=5)
