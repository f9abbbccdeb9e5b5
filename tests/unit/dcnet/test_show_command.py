"""`smgw dcnet show` and `smgw log consumer` over what a gateway answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.dcnet.test_standing import told
from tools.cli import controlled, log
from tools.cli.dcnet import app

ASKED: list[dict[str, object]] = []


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the gateway says; what it was asked is in ASKED."""
    said: dict[str, object] = {}
    ASKED.clear()

    def ask(_configuration: Path, **request: object) -> dict[str, object]:
        ASKED.append(request)
        if "error" in said:
            raise controlled.NotReached(str(said["error"]))
        return said

    monkeypatch.setattr("tools.cli.dcnet_show.ask", ask)
    monkeypatch.setattr(log, "ask", ask)
    return said


def test_show_draws_what_the_gateway_tells(answers: dict[str, object], tmp_path: Path) -> None:
    answers["nets"] = [told(24, {5}), told(4, set())]
    svg = tmp_path / "net.svg"
    found = CliRunner().invoke(app, ["show", "-c", "gateway.toml", "--svg", str(svg), "--net", f"{24:016X}"])
    assert found.exit_code == 0, found.stderr
    assert "23 of 24 members" in found.stdout
    assert "3 of 4" not in found.stdout
    assert svg.read_text(encoding="utf-8").count("<title>member") == 24
    assert ASKED[-1] == {"op": "dcnet", "role": "service-tech", "name": ""}
    (tmp_path / "code").write_text("abcd-efgh\n")
    words = ["show", "-c", "gateway.toml", "--consumer", "home-1", "--code-file", str(tmp_path / "code")]
    CliRunner().invoke(app, words)
    assert ASKED[-1] == {"op": "dcnet", "role": "consumer", "name": "home-1", "consumer_code": "abcd-efgh"}
    found = CliRunner().invoke(app, ["show", "-c", "gateway.toml", "--json"])
    assert len(json.loads(found.stdout)["nets"]) == 2


def test_show_says_for_which_slots_v_mode_was_ordered(answers: dict[str, object]) -> None:
    faults = {"mode": "A-mode", "reconcile_slots": 0, "recovery": "none", "last_audit": None, "recovered": []}
    ordered = {"first_slot": 7, "last_slot": 9, "reason": "on demand"}
    answers["nets"] = [told(4, set()) | faults | {"v_mode": ordered}]
    found = CliRunner().invoke(app, ["show", "-c", "gateway.toml"])
    assert "V-mode last ordered  slots 7 to 9: on demand" in found.stdout
    answers["nets"] = [told(4, set()) | faults | {"v_mode": None}]
    assert "V-mode" not in CliRunner().invoke(app, ["show", "-c", "gateway.toml"]).stdout


def test_show_says_what_went_wrong(answers: dict[str, object], tmp_path: Path) -> None:
    answers["nets"] = []
    found = CliRunner().invoke(app, ["show", "-c", "gateway.toml"])
    assert (found.exit_code, "in no net" in found.stdout) == (0, True)
    found = CliRunner().invoke(app, ["show", "-c", "gateway.toml", "--net", "00"])
    assert (found.exit_code, "no net 00" in found.stderr) == (1, True)
    lost = str(tmp_path / "nowhere" / "net.svg")
    assert CliRunner().invoke(app, ["show", "-c", "gateway.toml", "--svg", lost]).exit_code == 1
    answers["error"] = "access: emp may not"
    found = CliRunner().invoke(app, ["show", "-c", "gateway.toml", "--role", "emp"])
    assert (found.exit_code, "may not" in found.stderr) == (1, True)


def test_the_consumers_log_speaks_the_language_that_is_wanted(
    answers: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    entry = {
        "at_utc": "2026-01-01T00:15:04Z",
        "event": "concealed-contribution",
        "sub_event": "totalled",
        "subject": "aa",
        "text": "",
        "destination": "",
        "user": "gateway",
        "evidence": {"slot": "7", "anonymity_set": "128"},
    }
    answers["entries"] = [entry]
    words = ["consumer", "-c", "gateway.toml", "--consumer", "home-1"]
    assert "Summe von 128 Haushalten" in CliRunner().invoke(log.app, words).stdout
    said = CliRunner().invoke(log.app, [*words, "--lang", "en"]).stdout
    assert said == "2026-01-01 00:15 UTC  Your value (slot 7) went into a sum of 128 households in net aa.\n"
    answers["entries"] = []
    assert CliRunner().invoke(log.app, words).stdout == "keine Einträge\n"


def test_show_says_how_the_net_deals_with_faults(answers: dict[str, object]) -> None:
    mended = {
        "mode": "F-mode",
        "recovery": "witness",
        "reconcile_slots": 2976,
        "last_audit": {"epoch": 20_000, "slot": 7},
        "recovered": [{"slot": 8, "shares": 1}, {"slot": 9, "shares": 2}],
    }
    quiet = {"mode": "A-mode", "recovery": "none", "reconcile_slots": 0, "last_audit": None, "recovered": []}
    answers["nets"] = [told(4, set()) | mended]
    said = CliRunner().invoke(app, ["show", "-c", "gateway.toml"]).stdout
    assert "mode  F-mode, recovery witness, what is owed is added up every 2976 slots" in said
    assert "last audit  slot 7" in said
    assert "shares given  slots 8, 9" in said
    answers["nets"] = [told(4, set()) | quiet]
    said = CliRunner().invoke(app, ["show", "-c", "gateway.toml"]).stdout
    assert "A-mode, recovery none, what is owed is added up never" in said
    assert "last audit" not in said
