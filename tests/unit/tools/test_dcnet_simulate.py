"""`smgw dcnet simulate`: exact sums under drop-outs, its record, bad options."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame
from tests.support import dcnet_model as model
from tools.cli.aggregate import app as supplier
from tools.cli.dcnet import app
from tools.dcnet import simulate
from tools.dcnet.record import Recorder, read
from tools.dcnet.simulate import Plan, run


@settings(max_examples=25)
@given(
    st.integers(6, 80),
    st.integers(1, 2),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]),
    st.booleans(),
    st.integers(0, 3),
    st.integers(0, 9),
)
def test_every_total_is_the_plain_sum(
    gateways: int, nets: int, slots: int, dropout: float, witness: bool, bridges: int, seed: int
) -> None:
    plan = Plan(gateways, nets, slots, dropout, witness, bridges, delta=0.3, seed=seed)
    tally = run(plan, workers=1)
    assert tally.exact
    assert tally.totalled + tally.aborted == slots * (1 if bridges else nets)
    assert tally.sums >= tally.totalled
    if dropout == 0:
        assert tally.aborted == 0
        assert tally.reported[2] == gateways * slots  # the canary lane counts everybody
    if not witness:
        assert tally.recovered == 0


def test_a_wrong_recovered_mask_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of exactness can fail: a self-mask recovered wrong spoils the total, and that is told."""
    plan = Plan(300, 1, 8, 0.02, True, late=1.0)
    right = run(plan, workers=1)
    assert right.exact
    assert right.recovered
    monkeypatch.setattr(simulate, "self_mask", lambda seed, slot, lanes: (0,) * lanes)
    assert not run(plan, workers=1).exact


def test_workers_do_the_same_work() -> None:
    plan = Plan(700, 10, 2, 0.02, True)
    alone, two = run(plan, workers=1), run(plan, workers=2)
    assert alone == two
    told: list[tuple[int, int]] = []
    run(plan, workers=1, progress=lambda done, of: told.append((done, of)))
    assert told[-1] == (10, 10)


def test_a_recorded_slot_is_what_the_second_computation_makes_of_its_keys(tmp_path: Path) -> None:
    with Recorder(tmp_path / "r") as recorder:
        run(Plan(10, 1, 1, 0.0, True), record=recorder)
    seen, _ = read(tmp_path / "r")
    frames = [Frame.from_bytes(one.data[:-MAC_BYTES]) for one in seen if one.kind in ("submit", "open")]
    assert len(frames) == 20
    total = model.plus(*(f.lanes for f in frames[:10]), *(model.times(-1, f.lanes) for f in frames[10:]))
    assert total[2] == 10
    for frame, one in zip(frames, [s for s in seen if s.kind in ("submit", "open")], strict=True):
        again = model.frame(
            int(frame.type),
            slot=0,
            net=frame.net,
            index=frame.index,
            version=1,
            epoch=20_000,
            context=frame.reference,
            lanes=frame.lanes,
            key=bytes(16),
        )
        if not frame.shares:
            assert again == one.data


def test_the_word(tmp_path: Path) -> None:
    options = ["simulate", "--gateways", "40", "--slots", "2", "--dropout", "0.02", "--workers", "1"]
    done = CliRunner().invoke(app, [*options, "--record", str(tmp_path / "r"), "--json"])
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told["exact"] is True
    assert told["nets"] == 1
    done = CliRunner().invoke(app, [*options, "--recovery", "none"])
    assert "exact" in done.stdout
    done = CliRunner().invoke(app, [*options, "--record", str(tmp_path / "r")])
    assert done.exit_code == 2
    assert "exists" in done.stderr


@pytest.mark.parametrize(
    ("word", "arguments", "module"),
    [(app, ["simulate"], "tools.dcnet.simulate"), (supplier, ["x"], "tools.aggregate.slots")],
)
def test_without_numpy_the_words_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, word: Any, arguments: list[str], module: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "numpy" or name == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "tools.aggregate.columns", raising=False)
    monkeypatch.setitem(sys.modules, "numpy", None)  # type: ignore[arg-type]
    done = CliRunner().invoke(word, arguments)
    assert done.exit_code == 2
    assert "install the extra `aggregate`" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gateways", "10", "--nets", "9"], "at least 3 gateways a net"),
        (["--degree", "3"], "an even degree"),
        (["--gateways", "200", "--nets", "1", "--degree", "2"], "no key graph of degree 2"),
        (["--gateways", "100000", "--record", "x"], "--record writes at most"),
        (["--gateways", "10000001"], "Invalid value for '--gateways'"),
        (["--slots", "9999999999"], "Invalid value for '--slots'"),
    ],
)
def test_options_that_make_no_sense_are_named(options: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["simulate", "--workers", "1", *options])
    assert done.exit_code == 2
    assert message in done.stderr
