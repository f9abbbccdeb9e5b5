"""`smgw dcnet leak`: the oracle against an independent one, what a record may say, and bad records."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from firmware.enforcement.dcnet.messages.frames import RECONCILE
from tests.support import leak_oracle as other
from tests.unit.dcnet.test_adversary import shown_twice, stripped
from tools.cli.dcnet import app
from tools.dcnet import oracle
from tools.dcnet.leak import known
from tools.dcnet.record import BadRecord, PublicNet, Recorder, Seen, plain, read
from tools.dcnet.simulate import Group, Plan, Tally, run

READINGS = [f"x{i}" for i in range(6)]
MASKS = [f"m{i}" for i in range(6)]
combination = st.dictionaries(
    st.sampled_from(READINGS + MASKS), st.sampled_from([1, -1, 2, -3]), min_size=1, max_size=5
)


@settings(max_examples=100)
@given(st.lists(combination, max_size=10))
def test_the_oracle_agrees_with_another_elimination(seen: list[dict[str, int]]) -> None:
    ours = oracle.determined(seen, READINGS)
    theirs = other.determined(seen, READINGS)
    assert len(ours) == len(theirs)
    # The same span: what one determines adds nothing to the other.
    assert len(oracle.reduced([*ours, *theirs])) == len(ours)
    found, expected = oracle.smallest(ours), other.smallest(theirs, len(READINGS) + 1)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert len(found.readings) == len(expected)
        assert found.exact
        assert len(other._eliminate(ours, set(READINGS) - found.readings)) >= 1
    alone = {symbol for symbol in READINGS if other._eliminate(theirs, set(READINGS) - {symbol})}
    assert set(oracle.singles(ours)) == alone


def recorded(folder: Path, **changes: object) -> None:
    fields = {"gateways": 24, "nets": 2, "slots": 2, "dropout": 0.05, "witness": True} | changes
    with Recorder(folder) as recorder:
        tally = run(Plan(**fields), record=recorder)  # type: ignore[arg-type]
    assert tally.exact
    assert tally.totalled


def test_a_simulated_net_shows_its_sums_and_nothing_else(tmp_path: Path) -> None:
    recorded(tmp_path / "r")
    done = CliRunner().invoke(app, ["leak", str(tmp_path / "r"), "--json"])
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told["ok"]
    assert told["singles"] == []
    assert told["determined"] >= 2
    assert all(one["plain_sum"] for one in told["sums"])
    assert "nothing outside" in CliRunner().invoke(app, ["leak", str(tmp_path / "r")]).stdout


def test_a_plain_profile_beside_the_net_is_a_leak(tmp_path: Path) -> None:
    """All outbound flows count: a gateway that also sends its value in plain is hidden from nobody."""
    recorded(tmp_path / "r", nets=1, dropout=0.0, slots=1)
    line = Seen("gw-0-5", "emp", "plain", plain(0, 0)).to_line()
    with (tmp_path / "r" / "plain.jsonl").open("w") as file:
        file.write(line + "\n")
    done = CliRunner().invoke(app, ["leak", str(tmp_path / "r")])
    assert done.exit_code == 1
    assert "too small: ('gw-0-5', '', 0)" in done.stdout


def test_a_month_s_bill_and_all_other_slots_give_the_last_one_away(tmp_path: Path) -> None:
    """A plain sum over several slots minus plain values of all but one of them."""
    recorded(tmp_path / "r", nets=1, dropout=0.0, slots=3)
    seen, _ = read(tmp_path / "r")
    bill = Seen("gw-0-5", "emp", "plain", plain(0, 2))
    assert known([*seen, bill], ()).singles == []
    told = [Seen("gw-0-5", "emp", "plain", plain(0, 1)), bill]
    assert ("gw-0-5", "", 2) in known([*seen, *told], ()).singles


def test_corrupt_members_take_themselves_out_of_the_sum(tmp_path: Path) -> None:
    recorded(tmp_path / "r", nets=1, gateways=8, dropout=0.0, slots=1)
    (tmp_path / "r" / "corrupt.json").write_text('{"corrupt": [1, "gw-0-2"]}')
    seen, corrupt = read(tmp_path / "r")
    found = known(seen, corrupt)
    assert [len(row) for row in found.basis] == [6]
    assert found.too_small == []
    done = CliRunner().invoke(app, ["leak", str(tmp_path / "r"), "--corrupt", "3,4,5,6,7", "--json"])
    assert json.loads(done.stdout)["singles"] == ["gw-0-8 slot 0"]
    assert done.exit_code == 1


def test_a_supplier_that_relays_frames_of_others_is_nobody_s_name(tmp_path: Path) -> None:
    """Frames that the supplier hands on to holders are still those of their members."""
    recorded(tmp_path / "r", nets=1, dropout=0.0, slots=1)
    seen, _ = read(tmp_path / "r")
    relayed = [replace(one, sender="emp", to="gw-0-1") for one in seen if one.kind == "submit"]
    told = [*seen, *relayed, Seen("gw-0-5", "emp", "plain", plain(0, 0))]
    for order in (told, told[::-1]):
        found = known(order, ())
        assert [sorted(one) for one in found.too_small] == [[("gw-0-5", "", 0)]]
        assert sorted(map(len, found.basis)) == [1, 23]
    assert [len(row) for row in known([*seen, *relayed], ()).basis] == [24]


def test_a_corrupt_name_that_is_nobody_s_is_an_error(tmp_path: Path) -> None:
    """Its pads would count as unknown, and the answer would be worth nothing."""
    recorded(tmp_path / "r", nets=1, slots=1)
    done = CliRunner().invoke(app, ["leak", str(tmp_path / "r"), "--corrupt", "gw-0-99"])
    assert done.exit_code == 2
    assert "'gw-0-99' sends nothing in this record and is no member number" in done.stderr


def test_each_net_has_a_floor_of_its_own(tmp_path: Path) -> None:
    """A sum that is large enough for a small net beside it is still too small for its own."""
    recorded(tmp_path / "r", nets=2, gateways=24, dropout=0.0, slots=1)
    seen, _ = read(tmp_path / "r")
    publics = [PublicNet.from_bytes(one.data) for one in seen if one.kind == "net"]
    assert len(publics) == 2
    higher = replace(publics[1], n_min=13).to_bytes()
    changed = [replace(one, data=higher) if one.data == publics[1].to_bytes() else one for one in seen]
    assert known(seen, ()).too_small == []
    assert [len(one) for one in known(changed, ()).too_small] == [12]
    with pytest.raises(BadRecord, match="described in two ways"):
        known([*changed, *seen], ())


def test_a_reconcile_slot_is_no_slot_of_the_register(tmp_path: Path) -> None:
    """Its number counts periods; what it carries has nothing to do with the slot of that number."""
    recorded(tmp_path / "r", nets=1, dropout=0.0, slots=1)
    seen, _ = read(tmp_path / "r")

    def flagged(one: Seen) -> Seen:
        data = one.data[:2] + RECONCILE.to_bytes(2, "little") + one.data[4:]
        return replace(one, data=data) if one.kind in ("submit", "open") else one

    told = [Seen("gw-0-5", "emp", "plain", plain(0, 0))]
    assert known([*map(flagged, seen), *told], ()).too_small == []
    assert len(known([*map(flagged, seen), *told], ()).basis) == 2


@pytest.mark.parametrize(("bridges", "sums"), [(0, 4), (1, 1), (3, 1)])
def test_with_bridges_only_the_common_sum_remains(tmp_path: Path, bridges: int, sums: int) -> None:
    recorded(tmp_path / "r", gateways=32, nets=4, slots=1, dropout=0.0, bridges=bridges)
    found = known(*read(tmp_path / "r"))
    assert [len(row) for row in found.basis] == [32 // sums] * sums


def test_more_bridges_keep_the_nets_together_when_members_are_missing() -> None:
    """A circle of nets with B bridges each falls apart once two joints are gone; the sums tell."""
    learned = {}
    for bridges in (1, 2, 4, 8):
        plan = Plan(48, 4, 1, 0.15, False, bridges, delta=0.49, late=0.0, seed=7)
        group, tally = Group(plan, plan.sizes(), 0), Tally()
        group.d_min, group.n_min = group.d_min * 0 + 1, 2  # members that take any net
        for slot in range(60):
            group.slot(slot, tally)
        assert tally.exact
        learned[bridges] = tally.sums / max(1, tally.totalled)
    assert learned[1] > 1
    assert learned[1] >= learned[2] >= learned[4] >= learned[8] == 1


def test_the_three_rules_matter_to_the_word_as_well(tmp_path: Path) -> None:
    for name, found, alone in (
        ("d-min", stripped(1), ["gw-1 slot 0"]),
        ("once", shown_twice(forgets=True), ["gw-6 slot 0"]),
        ("kept", stripped(2), []),
    ):
        assert found.to_dict()["singles"] == alone, name
        assert found.to_dict()["ok"] is (not alone), name


NET = PublicNet(bytes(8), 3, 2, 0, 4, ((1, 2),)).to_bytes().hex()
NET_LINE = f'{{"from": "e", "kind": "net", "hex": "{NET}"}}\n'
SUBMIT = "01010000" + "00" * 16 + "0100" + "00" * 66
SHARE = "01040000" + "00" * 18 + "0100" + "00" * 40 + "00" * 36
OPEN = "01020000" + "00" * 16 + "0100" + "00" * 66


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "1: not JSON"),
        ("[]", "an object was expected"),
        ('{"from": "a", "kind": "letter", "hex": ""}', "kind 'letter' is none of"),
        ('{"kind": "submit", "hex": ""}', "are texts"),
        ('{"from": "a", "kind": "submit", "hex": "0"}', "not hex"),
        ('{"from": "a", "kind": "submit", "hex": "00"}', "a submit that cannot be read"),
        ('{"from": "a", "kind": "plain", "hex": "00"}', "a plain that cannot be read"),
        ('{"from": "a", "kind": "net", "hex": "80"}', "a net that cannot be read"),
        ('{"from": "a", "kind": "plain", "hex": "820500"}', "a plain delivery of slots 5 to 0"),
        (
            '{"from": "a", "kind": "plain", "hex": "82001affffffff"}',
            "a plain delivery of slots 0 to 4294967295",
        ),
        ('{"from": ' + "9" * 5000 + "}", "a number of thousands of digits"),
        ('{"corrupt": 5}', "was expected"),
        (
            f'{{"from": "a", "kind": "submit", "hex": "{SUBMIT}"}}',
            "key graph is not",
        ),
        (
            f'{NET_LINE}{{"from": "a", "kind": "submit", "hex": "{SUBMIT}"}}',
            "behind a manifest that is not in the record",
        ),
        (
            f'{NET_LINE}{{"from": "a", "kind": "open", "hex": "{OPEN}"}}',
            "under a manifest that is not in the record",
        ),
        (
            f'{NET_LINE}{{"from": "a", "kind": "share", "hex": "{SHARE}"}}',
            "a share under a manifest that is not in the record",
        ),
    ],
)
def test_bad_records_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "messages.jsonl").write_text(text)
    done = CliRunner().invoke(app, ["leak", str(tmp_path)])
    assert done.exit_code == 2
    assert message in done.stderr
    assert "hint:" in done.stderr


def test_a_roster_version_has_its_own_key_graph(tmp_path: Path) -> None:
    """A frame is read with the graph of its roster, or with the one that stands for all."""
    both = [PublicNet(bytes(8), 3, 2, 0, 4, ((1, 2),), version) for version in (0, 7)]
    assert [PublicNet.from_bytes(one.to_bytes()) for one in both] == both
    line = '{{"from": "e", "kind": "net", "hex": "{}"}}\n{{"from": "a", "kind": "submit", "hex": "{}"}}'
    for one, message in zip(both, ("behind a manifest", "key graph is not"), strict=True):
        (tmp_path / "messages.jsonl").write_text(line.format(one.to_bytes().hex(), SUBMIT))
        assert message in CliRunner().invoke(app, ["leak", str(tmp_path)]).stderr


def test_an_empty_folder_is_no_record(tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match=r"no \*.jsonl"):
        read(tmp_path)
    (tmp_path / "m.jsonl").write_bytes(b"\xff")
    with pytest.raises(BadRecord, match="not UTF-8"):
        read(tmp_path)
    (tmp_path / "m.jsonl").write_text("\n")
    (tmp_path / "corrupt.json").write_text("{")
    with pytest.raises(BadRecord, match="not JSON"):
        read(tmp_path)


def test_a_search_that_would_be_too_long_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    source = random.Random(1)
    rows = [{f"x{i}": source.randint(1, 99) for i in range(12)} for _ in range(3)]
    basis = oracle.determined(rows, [f"x{i}" for i in range(12)])
    full = oracle.smallest(basis)
    assert full is not None
    assert full.exact
    assert len(full.readings) == 10
    monkeypatch.setattr(oracle, "_SEARCH", 5)
    short = oracle.smallest(basis)
    assert short is not None
    assert not short.exact
