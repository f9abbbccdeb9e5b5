"""A street: its plan is one that gateways accept, its limits are said, and a small one lives."""

from __future__ import annotations

import json
import resource
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from firmware.profile import codec
from tests.unit.firmware.profile_set import certificate
from tools.cli.street import app
from tools.homes.household import Household
from tools.street import resources
from tools.street.plan import StreetPlan
from tools.street.resources import StreetTooLarge, Taken, reserve_files
from tools.street.run import Seen, steady_per_s, summary

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("interval_s", [0.1, 1.0, 60.0])
@pytest.mark.parametrize("period_s", [2, 5, 899, 900, 86_400])
def test_its_profiles_are_valid(interval_s: float, period_s: int) -> None:
    plan = StreetPlan(Path("nowhere"), 2, interval_s, period_s)
    pem = certificate("EMP")
    peer = {"name": "testemp", "host": "127.0.0.1", "port": 1, "server_name": "x.sm-pki.test"}
    peer |= dict.fromkeys(("tls_certificate", "sig_certificate", "enc_certificate"), pem)
    body = plan.profiles(Household(1), peer, NOW)
    profiles = codec.from_json(json.dumps(body).encode(), small_nets_allowed=False)
    assert [one.taf for one in profiles.processing] == [7]


def test_files_are_reserved_or_it_says_how_many_gateways_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(100, 2000)]
    monkeypatch.setattr(resource, "getrlimit", lambda _which: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _which, pair: limits.append(pair))
    assert reserve_files(10) == limits[-1][0] == 328
    assert reserve_files(5) == 328  # never lowered
    with pytest.raises(StreetTooLarge, match=r"need 4128 open files, .* 2000: 93 gateways fit"):
        reserve_files(200)
    assert limits[-1] == (328, 2000)


def test_a_limit_that_is_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (resource.RLIM_INFINITY,) * 2)
    assert reserve_files(10_000) == resource.RLIM_INFINITY


class _Home:
    def __init__(self, sent: int, accepted: int, registered: dict[datetime, int | None]) -> None:
        transmitted = [(NOW + timedelta(seconds=2 * number), 7 * number) for number in range(sent)]
        about = {"sent": sent, "accepted": accepted, "registered": registered, "transmitted": transmitted}
        self.tally = type("Tally", (), about)


@pytest.mark.parametrize(("sent", "accepted", "ok"), [(4, 4, True), (4, 3, False), (0, 0, False)])
def test_a_lost_telegram_is_no_success(sent: int, accepted: int, ok: bool) -> None:
    taken = [Taken(100, 80.0, 1.0, 10.0), Taken(140, 90.0, 2.0, 11.0), Taken(140, 91.0, 4.0, 21.0)]
    homes = (_Home(sent, accepted, {NOW: 5, NOW + timedelta(seconds=5): None}), _Home(0, 0, {}))
    plan = StreetPlan(Path("nowhere"), 2)
    result = summary(Seen(plan, homes, [{"verified": True}], *taken, late_s=0.02))  # type: ignore[arg-type]
    assert result["ok"] is ok
    assert (result["registered"], result["missing"], result["delivered"]) == (1, 1, 1)
    assert result["processor"] == 0.2
    assert result["files_per_gateway"] == 20
    assert result["memory_mb_per_gateway"] == 5.5
    per_s = 0.5 * accepted / sent if sent else 0.0  # one each 2 s, of which some were lost
    assert result["telegrams"]["per_s"] == round(per_s, 1)


@pytest.mark.parametrize(
    ("seconds", "rate", "per_s"),
    [
        ([0, 1, 2, 3, 4], 1, 1.0),
        ([4, 0, 3, 1, 2], 1, 1.0),
        ([100, 100.25, 100.5], 1, 4.0),  # what was before the first does not count
        ([0, 60, 120], 60, 1.0),  # the street's clock runs faster than the real one
        ([0, 0, 10, 10], 1, 0.3),
        ([5], 1, 0.0),
        ([5, 5], 1, 0.0),
        ([], 1, 0.0),
    ],
)
def test_telegrams_a_second_are_those_between_the_first_and_the_last(
    seconds: list[float], rate: float, per_s: float
) -> None:
    assert steady_per_s([NOW + timedelta(seconds=one) for one in seconds], rate) == pytest.approx(per_s)


def test_a_street_lives() -> None:
    """Three whole gateways; values are registered and opened by the supplier, in time that runs faster."""
    options = ["--gateways", "3", "--duration-s", "30", "--rate", "6", "--period-s", "6", "--json"]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["ok"]
    assert result["telegrams"]["accepted"] == result["telegrams"]["sent"] >= 60
    assert result["telegrams"]["per_s"] == pytest.approx(
        3 * 6, rel=0.2
    )  # one a second each, six times as fast
    assert result["registered"] >= 9
    assert result["delivered"] >= 9
    assert result["files_per_gateway"] <= resources.FILES_PER_GATEWAY


def test_too_large_a_street_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (100, 1000))
    result = CliRunner().invoke(app, ["--gateways", "100"])
    assert result.exit_code == 2
    assert "43 gateways fit" in result.output


def test_a_folder_that_is_not_empty_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert CliRunner().invoke(app, ["--dir", str(tmp_path)]).exit_code == 2
