"""Which test stands for which invariant of the protocol; the table is complete and names no missing test."""

from __future__ import annotations

import importlib
from typing import Any, Final

import pytest
from hypothesis import is_hypothesis_test

_HERE: Final = "tests.unit.dcnet."
SERVICE: Final[dict[str, tuple[str, ...]]] = {
    "I1": ("test_hostile_net.test_i1_i3_i5_i6_i12_i13_i17_i18_whatever_network_and_power_do",),
    "I2": ("test_wire_invariants.test_i2_what_leaves_a_gateway_is_uniform_whatever_it_measured",),
    "I3": (
        "test_hostile_net.test_i1_i3_i5_i6_i12_i13_i17_i18_whatever_network_and_power_do",
        "test_wire_invariants.test_i3_i4_a_second_manifest_after_a_restart_is_not_opened",
    ),
    "I4": (
        "test_wire_invariants.test_i3_i4_a_second_manifest_after_a_restart_is_not_opened",
        "test_wire_invariants.test_i4_a_signed_fork_of_the_chain_ends_in_quarantine",
    ),
    "I5": ("test_hostile_net.test_i1_i3_i5_i6_i12_i13_i17_i18_whatever_network_and_power_do",),
    "I6": (
        "test_hostile_net.test_i1_i3_i5_i6_i12_i13_i17_i18_whatever_network_and_power_do",
        "test_committing_power_cuts.test_a_power_cut_at_any_message_of_v_mode_sends_the_same_bytes_again",
    ),
    "I7": ("test_wire_invariants.test_i7_i19_both_ends_have_one_pad_in_every_epoch_and_old_keys_are_gone",),
    "I8": ("test_wire_invariants.test_i8_two_stories_destroy_the_next_total",),
    "I9": ("test_whole_leak.test_i9_i10_a_lying_supplier_learns_nothing_outside_the_limits",),
    "I10": (
        "test_whole_leak.test_i9_i10_a_lying_supplier_learns_nothing_outside_the_limits",
        "test_whole_leak.test_without_d_min_a_single_reading_is_found",
    ),
    "I11": (
        "test_recovering.test_an_order_for_a_member_whose_neighbour_was_left_out_is_refused_by_all",
        "test_recovering.test_a_second_order_is_proof_of_a_lie_also_after_a_restart",
    ),
    "I12": (
        "test_hostile_net.test_i1_i3_i5_i6_i12_i13_i17_i18_whatever_network_and_power_do",
        "test_hostile_net.test_i12_i13_i18_a_street_in_any_order_of_events",
        "test_hostile_net.test_a_total_that_became_known_to_nobody_in_time_is_not_owed",
        "test_reconcile_changes.test_i12_through_a_supplier_change_within_a_period_and_at_its_end",
    ),
    "I13": (
        "test_hostile_net.test_i1_i3_i5_i6_i12_i13_i17_i18_whatever_network_and_power_do",
        "test_hostile_net.test_i13_a_power_cut_at_every_await_point",
        "test_committing_power_cuts.test_a_power_cut_at_any_write_of_v_mode_sends_the_same_bytes_again",
    ),
    "I14": ("test_wire_invariants.test_i14_every_member_of_a_large_net_has_the_degree_the_rules_ask_for",),
    "I15": ("test_wire_invariants.test_i15_what_leaks_from_one_suppliers_net_into_another_changes_no_sum",),
    "I16": ("test_wire_invariants.test_i16_when_the_net_falls_apart_below_n_min_every_member_refuses",),
    "I17": ("test_wire_invariants.test_i17_the_canary_counts_exactly_if_all_pads_cancel",),
    "I18": (
        "test_hostile_net.test_i1_i3_i5_i6_i12_i13_i17_i18_whatever_network_and_power_do",
        "test_hostile_net.test_storms_in_which_a_seventh_of_all_messages_goes_wrong",
        "test_hostile_net.test_an_earlier_answer_at_any_moment_costs_nothing_but_time",
    ),
    "I19": ("test_wire_invariants.test_i7_i19_both_ends_have_one_pad_in_every_epoch_and_old_keys_are_gone",),
}
"""Over running members and a running supplier with the network between them."""
WIRE: Final[dict[str, tuple[str, ...]]] = dict.fromkeys(
    ("I1", "I3", "I4", "I5", "I6", "I12", "I17", "I18"),
    ("test_hostile_wire.test_i1_i3_i4_i5_i6_i12_i17_i18_over_tcp_and_tls",),
)
"""Over members and a supplier with real TCP and TLS between them."""
CORE: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        ("I1", "I3", "I4", "I5", "I12"), ("test_invariants.test_i1_i3_i4_i5_i6_i12_i17_over_many_slots",)
    ),
    "I2": ("test_invariants.test_i2_submissions_and_openings_are_uniform_whatever_the_reading",),
    "I6": ("test_invariants.test_i6_prf_inputs_that_differ_give_outputs_that_differ",),
    "I7": ("test_invariants.test_i7_both_ends_of_an_edge_derive_one_pad_in_every_epoch",),
    "I8": ("test_invariants.test_i8_two_stories_destroy_the_next_total",),
    "I9": ("test_adversary.test_i9_random_adversaries_learn_nothing_outside_the_limits",),
    "I10": ("test_adversary.test_i10_sparse_graphs_with_fewer_than_d_min_corrupt_neighbours",),
    "I11": (
        "test_recovery.test_nobody_is_recovered_whose_neighbour_was_left_out",
        "test_recovery.test_no_share_goes_out_under_a_second_order",
    ),
    "I14": ("test_invariants.test_i14_joining_and_leaving_change_few_edges_and_keep_the_graph_whole",),
    "I15": ("test_invariants.test_i15_pads_of_two_nets_never_cancel",),
    "I16": ("test_invariants.test_i16_in_a_component_below_n_min_every_member_refuses",),
    "I17": ("test_invariants.test_i17_the_canary_counts_exactly_if_all_pads_cancel",),
    "I19": ("test_invariants.test_i19_erased_keys_cannot_make_old_pads",),
    "I20": ("test_vectors.test_net",),
}
"""Over the pure core: also what the service has no part in (I20), or each step by itself (I14)."""
INVARIANTS: Final = tuple(f"I{number}" for number in range(1, 21))
NOT_SEEN: Final = {
    "I9": "drawn within the test, which counts what all its runs brought",
    "I20": "known answers",
}
"""Why a test of an invariant does not show that Hypothesis draws what it tries."""


def test_every_invariant_has_a_test() -> None:
    assert set(SERVICE) | set(WIRE) | set(CORE) == set(INVARIANTS)


def named_tests(invariant: str) -> list[Any]:
    found = []
    for table in (SERVICE, WIRE, CORE):
        for named in table.get(invariant, ()):
            module, name = named.split(".")
            found.append(getattr(importlib.import_module(_HERE + module), name))
    return found


@pytest.mark.parametrize("invariant", INVARIANTS)
def test_every_invariant_is_shown_by_callable_tests_and_hypothesis_draws(invariant: str) -> None:
    found = named_tests(invariant)
    assert found
    assert all(callable(one) for one in found)
    drawn = [one for one in found if is_hypothesis_test(one) or isinstance(one, type)]  # a state machine's
    assert bool(drawn) is (invariant not in NOT_SEEN)
