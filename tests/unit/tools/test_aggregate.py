"""`smgw aggregate`: sums in columns, frames taken in batches, and each way a frame is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from firmware.enforcement.dcnet.messages.frames import Frame, FrameType, digest, seal
from tests.support.vectors import load as known
from tests.unit.tools.test_dcnet_leak import recorded
from tools.aggregate.columns import Columns
from tools.aggregate.ingest import Intake, Taken, Wanted
from tools.aggregate.slots import Slot, from_record, together
from tools.cli.aggregate import app
from tools.dcnet.record import BadRecord, PublicNet, Recorder, Seen, read
from tools.dcnet.simulate import Plan, run

word = st.integers(0, (1 << 64) - 1)


@settings(max_examples=60)
@given(st.integers(1, 4), st.lists(st.integers(1, 6), min_size=1, max_size=5), st.data())
def test_sums_modulo_2_64_of_any_nets_with_any_missing(
    lanes: int, sizes: list[int], data: st.DataObject
) -> None:
    columns, count = Columns.empty(lanes, sizes), sum(sizes)
    for values in (columns.submitted, columns.opened):
        values[:] = data.draw(
            st.lists(st.lists(word, min_size=count, max_size=count), min_size=lanes, max_size=lanes)
        )
    without = sorted(data.draw(st.sets(st.integers(0, count - 1))))
    ends = np.cumsum([0, *sizes]).tolist()
    expected = [
        [
            sum(
                int(columns.submitted[lane, place]) - int(columns.opened[lane, place])
                for place in range(first, last)
                if place not in without
            )
            % (1 << 64)
            for first, last in pairwise(ends)
        ]
        for lane in range(lanes)
    ]
    places = np.array(without, dtype=np.intp)
    assert columns.by_net(places).tolist() == expected
    assert columns.total(places).tolist() == [sum(lane) % (1 << 64) for lane in expected]
    if not without:
        assert columns.total().tolist() == columns.total(places).tolist()


KEYS = {index: bytes([index]) * 16 for index in range(1, 6)}
WANTED = Wanted(FrameType.SUBMIT, 7, b"net-0001", 1, 20_000, b"p" * 32, 3)


def frame(index: int, **changes: Any) -> Frame:
    made = Frame(FrameType.SUBMIT, 7, b"net-0001", index, 1, 20_000, b"p" * 32, (index, 2, 1 << 63))
    return replace(made, **changes)


def sealed(index: int, **changes: Any) -> bytes:
    return seal(frame(index, **changes).to_bytes(), KEYS[index])


def intake() -> tuple[Intake, Columns]:
    columns = Columns.empty(3, [5])
    return Intake(KEYS, columns.submitted), columns


def test_a_batch_in_any_order_and_of_any_length_goes_into_its_places() -> None:
    taking, columns = intake()
    with_shares = sealed(4, shares=((1, b"a" * 16), (2, b"b" * 16)))
    verdicts = taking.take([sealed(3), with_shares, sealed(1)], WANTED)
    assert verdicts.tolist() == [Taken.NEW] * 3
    assert columns.submitted.T.tolist() == [
        [1, 2, 1 << 63],
        [0] * 3,
        [3, 2, 1 << 63],
        [4, 2, 1 << 63],
        [0] * 3,
    ]
    assert taking.digests[4] == digest(with_shares[:-16])
    assert taking.take([], WANTED).tolist() == []


def test_what_comes_again_is_known_and_another_value_is_evidence() -> None:
    taking, columns = intake()
    other = sealed(1, lanes=(9, 9, 9))
    assert taking.take([sealed(1), sealed(1), other], WANTED).tolist() == [
        Taken.NEW,
        Taken.KNOWN,
        Taken.CONFLICT,
    ]
    assert taking.take([other, sealed(2)], WANTED).tolist() == [Taken.CONFLICT, Taken.NEW]
    assert columns.submitted[:, 0].tolist() == [1, 2, 1 << 63]
    taking.begin(columns.opened)
    opening = replace(WANTED, type=FrameType.OPEN, reference=b"m" * 32)
    opened = sealed(1, type=FrameType.OPEN, reference=b"m" * 32, lanes=(1, 2, 1 << 63))
    assert taking.take([opened, sealed(2)], opening).tolist() == [Taken.NEW, Taken.FORM]
    assert columns.total(np.array([], dtype=np.intp)).tolist() == [2, 2, 1 << 63]


@pytest.mark.parametrize(
    "changes",
    [
        {"slot": 8},
        {"net": b"net-0002"},
        {"version": 2},
        {"epoch": 1},
        {"reference": b"q" * 32},
        {"type": FrameType.OPEN},
        {"lanes": (1, 2)},
        {"lanes": (1, 2, 3, 4)},
        {"flags": 1},
    ],
)
def test_a_header_of_something_else_is_refused(changes: dict[str, Any]) -> None:
    taking, columns = intake()
    assert taking.take([sealed(1, **changes), sealed(2)], WANTED).tolist() == [Taken.FORM, Taken.NEW]
    assert columns.submitted[:, 0].tolist() == [0, 0, 0]


def test_members_that_do_not_exist_and_cut_frames_are_refused() -> None:
    taking, _ = intake()
    stranger = seal(frame(6).to_bytes(), KEYS[1])
    nobody = seal(frame(0).to_bytes(), KEYS[1])
    odd = bytearray(sealed(1))
    odd[0] = 2
    batch = [stranger, nobody, b"", sealed(1)[:-1], sealed(1) + b"\0", bytes(odd)]
    assert set(taking.take(batch, WANTED).tolist()) == {Taken.FORM}
    lying = bytearray(sealed(1, shares=((2, b"a" * 16),)))
    lying[22] = 0  # says it has no shares
    assert taking.take([bytes(lying)], WANTED).tolist() == [Taken.FORM]


@given(st.integers(0, 103), st.integers(1, 255))
def test_no_altered_frame_is_taken(position: int, change: int) -> None:
    taking, columns = intake()
    altered = bytearray(sealed(1))
    altered[position] ^= change
    assert taking.take([bytes(altered)], WANTED).tolist()[0] in (Taken.FORM, Taken.MAC)
    assert not columns.submitted.any()


def test_the_word_opens_a_record_with_recovered_members(tmp_path: Path) -> None:
    with Recorder(tmp_path / "r") as recorder:
        tally = run(Plan(600, 3, 3, 0.01, True, seed=3), record=recorder)
    assert tally.recovered
    done = CliRunner().invoke(app, [str(tmp_path / "r"), "--json"])
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["total"] == tally.reported
    assert (told["totalled"], told["aborted"]) == (tally.totalled, tally.aborted)
    assert sum(one["recovered"] for one in told["sums"] if one["totals"]) == tally.recovered
    assert "totalled" in CliRunner().invoke(app, [str(tmp_path / "r")]).stdout


def test_the_word_opens_the_known_answers(tmp_path: Path) -> None:
    cases = known("dcnet/net.json")["cases"]
    (tmp_path / "nets.json").write_text(json.dumps({"net": cases}))
    done = CliRunner().invoke(app, [str(tmp_path / "nets.json"), "--no-canary", "--json"])
    assert [one["totals"] for one in json.loads(done.stdout)["sums"]] == [case["total"] for case in cases]
    assert done.exit_code == 0
    done = CliRunner().invoke(app, [str(tmp_path / "nets.json")])  # their third lane is 0, no canary
    assert done.exit_code == 1
    assert "CANARY" in done.stdout
    del cases[0]["r"]["1"]
    (tmp_path / "nets.json").write_text(json.dumps(cases))
    done = CliRunner().invoke(app, [str(tmp_path / "nets.json"), "--no-canary", "--json"])
    assert json.loads(done.stdout)["sums"][0]["reason"] == "1 accepted members did not open"


def test_nets_of_other_widths_stand_beside_each_other(tmp_path: Path) -> None:
    nets = [{"slot": 1, "y": {"1": word}, "r": {"1": word}} for word in ("00" * 8, "00" * 16)]
    (tmp_path / "nets.json").write_text(json.dumps(nets))
    done = CliRunner().invoke(app, [str(tmp_path / "nets.json"), "--json"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert (found["total"], [len(one["totals"]) for one in found["sums"]]) == (None, [1, 2])


def test_a_record_with_two_rosters_is_opened_with_the_size_of_each(tmp_path: Path) -> None:
    recorded(tmp_path / "r", nets=1)
    seen, _ = read(tmp_path / "r")
    (public,) = [PublicNet.from_bytes(one.data) for one in seen if one.kind == "net"]
    other = Seen("emp", "all", "net", replace(public, version=9, size=99).to_bytes())
    assert from_record([*seen, other]) == from_record(seen)
    frame = next(one for one in seen if one.kind == "submit")
    again = replace(frame, data=frame.data[:64] + bytes(8) + frame.data[72:])
    assert from_record([*seen, again]) == from_record(seen)  # a second value of a member counts for nothing
    wrong = replace(other, data=replace(public, size=99).to_bytes())
    with pytest.raises(BadRecord, match="is not one of 99 members"):
        from_record([*(one for one in seen if one.kind != "net"), wrong])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting"),
        ("{}", "y, r and slot"),
        ('{"net": [{"y": {"1": "0"}, "r": {}, "slot": 1}]}', "y, r and slot"),
        ('{"net": [{"y": {"1": "", "01": ""}, "r": {}, "slot": 1}]}', "a member stands twice"),
        ('{"net": [{"y": {}, "r": {}, "slot": 1e400}]}', "y, r and slot"),
        ("9" * 5000, "a number of thousands of digits"),
    ],
)
def test_bad_sources_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    for source in (tmp_path / "bad.json", tmp_path / "none.json"):
        done = CliRunner().invoke(app, [str(source)])
        assert done.exit_code == 2
        assert "hint:" in done.stderr
        assert message in done.stderr or "No such file" in done.stderr


def _total(slot: int, lanes: list[int], **changes: Any) -> dict[str, Any]:
    event = {
        "event": "total",
        "net": "00112233445566aa",
        "slot": slot,
        "members": ["a", "b", "c"],
        "left_out": [],
        "lanes": lanes,
        "verdict": "totalled" if lanes else "aborted",
    }
    return event | changes


def _emp(folder: Path, *events: dict[str, Any], end: str = "\n") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "emp.toml").write_text("")
    text = "\n".join(json.dumps(event) for event in events) + end
    (folder / "totals.jsonl").write_text(text)
    return str(folder)


def test_the_sums_of_a_running_supplier_are_columns(tmp_path: Path) -> None:
    first, second = _total(7, [1500, 20, 3]), _total(8, [])
    folder = _emp(tmp_path / "emp", {"event": "roster"}, first, first, second)
    answer = CliRunner().invoke(app, [folder, "--json"])
    found = json.loads(answer.stdout)
    assert (answer.exit_code, found["slots"], found["totalled"], found["aborted"]) == (0, 2, 1, 1)
    assert found["total"] == [1500, 20, 3]
    table = CliRunner().invoke(app, [folder]).stdout.splitlines()
    assert table[0].split() == [
        "net",
        "slot",
        "members",
        "import",
        "0.1",
        "Wh",
        "export",
        "0.1",
        "Wh",
        "canary",
    ]
    assert table[1].split() == ["00112233445566aa", "7", "3", "1500", "20", "3"]
    assert "gave it up" in table[2]
    events = tmp_path / "events.jsonl"
    events.write_text(json.dumps(first) + "\n" + json.dumps(second)[:20])  # being written now
    assert json.loads(CliRunner().invoke(app, [str(events), "--json"]).stdout)["slots"] == 1


def test_what_a_supplier_cannot_have_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "emp").mkdir()
    for event in (
        _total(7, [1], verdict="aborted"),
        {"no": "event"},
        _total(7, []) | {"verdict": "totalled"},
        _total(7, [-1, 2, 3]),
        _total(7, [1 << 64, 2, 3]),
        _total(7, [1, 2, 3]) | {"lanes": {"1": 2}},
        _total(7, [1, 2, 3]) | {"slot": float("inf")},
    ):
        answer = CliRunner().invoke(app, [_emp(tmp_path / "emp", event)])
        assert (answer.exit_code, "line 1" in answer.stderr) == (2, True)
    twice = _emp(tmp_path / "emp", _total(7, [1, 2, 3]), _total(7, [1, 2, 4]))
    answer = CliRunner().invoke(app, [twice])
    assert (answer.exit_code, "two results" in answer.stderr) == (2, True)
    answer = CliRunner().invoke(app, [_emp(tmp_path / "emp", _total(7, [1, 2, 4]))])
    assert (answer.exit_code, "CANARY" in answer.stdout) == (1, True)
    (tmp_path / "emp" / "totals.jsonl").unlink()
    assert CliRunner().invoke(app, [str(tmp_path / "emp")]).exit_code == 0


def test_a_supplier_keeps_what_it_tells(tmp_path: Path) -> None:
    from tools.counterparts.net_totals import KeptTotals

    seen: list[Any] = []
    emit = KeptTotals(tmp_path / "totals.jsonl", seen.append)
    for event in ({"event": "submit"}, _total(7, [1, 2, 3])):
        emit(event)
    assert len(seen) == 2
    assert json.loads((tmp_path / "totals.jsonl").read_text()) == seen[1]


def test_nets_of_one_supplier_are_added_slot_by_slot() -> None:
    slots = [
        Slot("a1", 0, 3, 0, (10, 1, 3)),
        Slot("a2", 0, 2, 0, (5, 0, 2)),
        Slot("a1", 1, 3, 0, None, "aborted"),
        Slot("a2", 1, 2, 0, ((1 << 64) - 1, 0, 2)),
        Slot("a3", 1, 2, 0, (2, 0, 2)),
    ]
    assert [one.to_dict() for one in together(slots)] == [
        {"slot": 0, "nets": 2, "members": 5, "totals": [15, 1, 5]},
        {"slot": 1, "nets": 2, "members": 4, "totals": [1, 0, 4]},
    ]


def test_the_sum_of_a_reconcile_slot_says_whose_energy_it_is(tmp_path: Path) -> None:
    event = _total(7, [1500, 20, 3], reconciles="6e65742d30303031")
    folder = _emp(tmp_path / "emp", event)
    answer = json.loads(CliRunner().invoke(app, [folder, "--json"]).stdout)
    assert answer["sums"][0]["reconciles"] == "6e65742d30303031"
    assert "reconcile of 6e65742d30303031" in CliRunner().invoke(app, [folder]).stdout
