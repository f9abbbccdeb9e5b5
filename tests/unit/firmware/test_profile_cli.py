"""`smgw profile`: what people do with profile files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from firmware.enforcement.dcnet.policy import NetRules
from firmware.orders.tariff import READING_REQUEST, TARIFF_EVENT
from firmware.profile import codec
from hsm.x509 import Certificate
from tools.cli.profile import app
from tools.counterparts.pki import make_pki
from tools.counterparts.spool import profiles_ordered
from wan.gwa import orders

EXAMPLES = Path(__file__).resolve().parents[3] / "tools" / "examples" / "profiles"
HOUSEHOLD, SMALL = EXAMPLES / "household.toml", EXAMPLES / "small-net.toml"
TARIFFS, PROXY = EXAMPLES / "tariffs.toml", EXAMPLES / "proxy.toml"


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_examples_are_well():
    result = run("validate", "--insecure-small-nets", "--json", HOUSEHOLD, SMALL, TARIFFS, PROXY)
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["ok"]
    assert [one["warnings"] for one in document["files"]] == [[], [], [], []]


@pytest.mark.parametrize(("path", "small"), [(HOUSEHOLD, False), (SMALL, True)])
def test_the_net_of_an_example_is_one_that_a_member_accepts(path, small):
    profiles = codec.from_toml(path, small_nets_allowed=small)
    (net,) = [one.net for one in profiles.communication if one.net is not None]
    assert NetRules.from_profile(net).admit(insecure_small_nets_allowed=small) is small


def test_a_small_net_is_refused_without_the_flag():
    result = run("validate", SMALL, HOUSEHOLD)
    assert result.exit_code == 3
    assert "household.toml: ok" in result.stdout
    assert "communication[1].net.n_min" in result.stderr


def test_a_set_that_undoes_concealment_is_refused(tmp_path):
    (tmp_path / "example-emp.pem").write_bytes((EXAMPLES / "example-emp.pem").read_bytes())
    path = tmp_path / "bad.toml"
    path.write_text(
        HOUSEHOLD.read_text().replace('processing = "monthly-register"', 'processing = "quarter-hours"')
    )
    result = run("validate", path)
    assert result.exit_code == 3
    assert "undo group-total" in result.stderr


def test_an_override_is_ordered_by_name_and_remembered_as_the_set_alone(tmp_path):
    (tmp_path / "example-emp.pem").write_bytes((EXAMPLES / "example-emp.pem").read_bytes())
    path, admin = tmp_path / "bad.toml", tmp_path / "gwa"
    path.write_text(
        HOUSEHOLD.read_text().replace('processing = "monthly-register"', 'processing = "quarter-hours"')
    )
    make_pki(tmp_path / "pki")
    admin = tmp_path / "pki" / "gwa"
    words = "flash", path, "--admin", admin, "--gateway", "ESGW0100000001"
    assert run(*words).exit_code == 3
    assert run(*words, "--undo-concealment", "another").exit_code == 3
    assert run(*words, "--undo-concealment", "group-total").exit_code == 0
    ordered = profiles_ordered(admin, "esgw0100000001")
    assert ordered.active == codec.from_toml(path, small_nets_allowed=False)
    for more in (("wipe-consumer", "anna"), ("memory-limit", "80")):
        found = run(*more, "--admin", admin, "--gateway", "ESGW0100000001", "--json")
        assert json.loads(found.stdout)["kind"] == more[0]
    assert run("memory-limit", "0", "--admin", admin, "--gateway", "ESGW0100000001").exit_code == 2


@pytest.mark.parametrize(
    ("lines", "place", "help_"),
    [
        ("n_start = 150", "net.n_start", "n_start = 192 does"),
        ("n_max = 190", "net.d_min", "k of at least 20"),
        ("bridges = 16", "net.bridges", "at least two cells"),
        ("cells = 2\nbridges = 16", "net.recovery", "another story"),
    ],
)
def test_a_net_that_could_not_run_is_refused_with_what_would_help(tmp_path, lines, place, help_):
    (tmp_path / "example-emp.pem").write_bytes((EXAMPLES / "example-emp.pem").read_bytes())
    path = tmp_path / "net.toml"
    path.write_text(HOUSEHOLD.read_text().replace("[communication.net]", f"[communication.net]\n{lines}"))
    order = ("--admin", tmp_path, "--gateway", "esgw0100000001")
    for words in (("validate", path), ("plan", path, *order)):
        result = run(*words)
        assert result.exit_code == 3
        assert f"{place}: " in result.stderr
        assert help_ in result.stderr


def test_a_recipient_without_right_is_a_warning(tmp_path):
    (tmp_path / "example-emp.pem").write_bytes((EXAMPLES / "example-emp.pem").read_bytes())
    path = tmp_path / "odd.toml"
    path.write_text(HOUSEHOLD.read_text().replace('recipients = ["supplier"]', 'recipients = ["another"]'))
    result = run("validate", path)
    assert result.exit_code == 0
    assert result.stderr.count("warning:") == 2


def test_show_tells_no_key():
    result = run("show", HOUSEHOLD)
    assert result.exit_code == 0
    assert "hidden among at least 128 gateways" in result.stdout
    assert "000102030405" not in result.stdout + run("show", "--json", HOUSEHOLD).stdout


def test_show_says_that_nothing_leaves(tmp_path):
    path = tmp_path / "meters.toml"
    path.write_text(HOUSEHOLD.read_text().partition("[[processing]]")[0])
    result = run("show", path)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("sends nothing: no communication profile\n")


def test_show_tells_that_a_proxy_profile_is_kept_and_not_served():
    said = run("show", PROXY).stdout.splitlines()[-1]
    assert said.startswith(
        "allows heat-pump of household a channel to controller (controller.example port 8445)"
    )
    assert said.endswith("; kept, not served")
    (channel,) = json.loads(run("show", "--json", PROXY).stdout)["channels"]
    assert (channel["state"], channel["opened_by"]) == ("kept, not served", ["cls", "emt", "gateway"])
    assert json.loads(run("show", "--json", HOUSEHOLD).stdout)["channels"] == []


def test_plan_and_flash_take_a_proxy_profile(tmp_path, admin):
    for name in ("example-emp.pem", "example-cls.pem"):
        (tmp_path / name).write_bytes((EXAMPLES / name).read_bytes())
    path = tmp_path / "proxy.toml"
    path.write_text(PROXY.read_text())
    assert run("flash", *order_words(admin), path).exit_code == 0
    assert run("plan", *order_words(admin), path).stdout == "no change\n"
    path.write_text(PROXY.read_text().replace("idle_s = 900", "idle_s = 90"))
    said = run("plan", *order_words(admin), path).stdout
    assert said.startswith("changed proxy/heat-pump-control  (concerns household)")
    path.write_text(path.read_text().replace('local_name = "control.heat-pump"', ""))
    refused = run("flash", *order_words(admin), path)
    assert (refused.exit_code, "proxy[0].local_name" in refused.stderr) == (3, True)


def test_show_tells_what_has_no_cycle():
    text = run("show", TARIFFS).stdout
    assert text.count("on request or event") == 2
    assert "every month" in text


@pytest.mark.parametrize(
    ("words", "kind", "body"),
    [
        (("request", "snapshots-on-request"), READING_REQUEST, {"communication": "snapshots-on-request"}),
        (("event", "peaks", "peak"), TARIFF_EVENT, {"processing": "peaks", "event": "peak", "amount": 0}),
        (
            ("event", "prepaid", "top-up", "--amount", "5", "--at", "2026-01-01T00:00:00Z"),
            TARIFF_EVENT,
            {"processing": "prepaid", "event": "top-up", "amount": 5, "at_utc": "2026-01-01T00:00:00Z"},
        ),
    ],
)
def test_requests_and_events_are_signed_orders(tmp_path, words, kind, body):
    make_pki(tmp_path / "pki")
    admin = tmp_path / "pki" / "gwa"
    result = run(*words, "--admin", admin, "--gateway", "ESGW0100000001", "--json")
    assert result.exit_code == 0
    (path,) = (admin / "spool" / "esgw0100000001").glob("*.order")
    signer = Certificate.from_pem((admin / "sig.pem").read_bytes())
    order = orders.open_order(path.read_bytes(), gateway="esgw0100000001", signer=signer)
    assert (order.message_id, order.kind) == (json.loads(result.stdout)["message_id"], kind)
    assert json.loads(order.body) == body


@pytest.mark.parametrize("words", [("request", "x"), ("event", "x", "y")])
def test_requests_and_events_want_a_gateway_and_an_administrator(tmp_path, words):
    assert run(*words, "--admin", tmp_path, "--gateway", "ESGW").exit_code == 2
    assert run(*words, "--admin", tmp_path, "--gateway", "ESGW0100000001").exit_code == 2


def test_flash_places_a_signed_order(tmp_path):
    make_pki(tmp_path / "pki")
    admin = tmp_path / "pki" / "gwa"
    result = run("flash", "--admin", admin, "--gateway", "ESGW0100000001", "--json", HOUSEHOLD)
    assert result.exit_code == 0
    identity = json.loads(result.stdout)["message_id"]
    (path,) = (admin / "spool" / "esgw0100000001").glob("*.order")
    signer = Certificate.from_pem((admin / "sig.pem").read_bytes())
    order = orders.open_order(path.read_bytes(), gateway="esgw0100000001", signer=signer)
    assert (order.message_id, order.kind, order.version) == (identity, "profiles", 1)
    expected = codec.from_toml(HOUSEHOLD, small_nets_allowed=False)
    assert codec.from_json(order.body, small_nets_allowed=False) == expected


def test_flash_orders_nothing_that_is_broken(tmp_path):
    result = run("flash", "--admin", tmp_path, "--gateway", "ESGW0100000001", "--json", SMALL)
    assert result.exit_code == 3
    assert json.loads(result.stdout)["ok"] is False
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("gateway", ["ESGW", "../../../etc/pa", "ESGW010000000é"])
def test_flash_wants_a_gateway_id(tmp_path, gateway):
    assert run("flash", "--admin", tmp_path, "--gateway", gateway, HOUSEHOLD).exit_code == 2


def test_flash_wants_an_administrator(tmp_path):
    assert run("flash", "--admin", tmp_path, "--gateway", "ESGW0100000001", HOUSEHOLD).exit_code == 2


@pytest.fixture
def admin(tmp_path):
    make_pki(tmp_path / "pki")
    return tmp_path / "pki" / "gwa"


def order_words(admin):
    return ("--admin", admin, "--gateway", "ESGW0100000001")


def without_net(tmp_path):
    text = HOUSEHOLD.read_text()
    start = text.rindex("[[communication]]")
    (tmp_path / "example-emp.pem").write_bytes((EXAMPLES / "example-emp.pem").read_bytes())
    path = tmp_path / "smaller.toml"
    path.write_text(text[:start])
    return path


def test_plan_tells_what_a_file_would_change_and_no_key(tmp_path, admin):
    first = run("plan", *order_words(admin), "--json", HOUSEHOLD)
    assert {one["change"] for one in json.loads(first.stdout)["changes"]} == {"added"}
    run("flash", *order_words(admin), HOUSEHOLD)
    assert run("plan", *order_words(admin), HOUSEHOLD).stdout == "no change\n"
    result = run("plan", *order_words(admin), without_net(tmp_path))
    assert result.stdout.startswith("removed communication/group-total")
    key = tmp_path / "key.toml"
    key.write_text(HOUSEHOLD.read_text().replace("000102030405", "ff0102030405"))
    result = run("plan", *order_words(admin), key)
    assert "key_hex: one -> another" in result.stdout
    assert "0102030405" not in result.stdout


def test_staging_activating_and_rolling_back_are_orders_of_their_own(tmp_path, admin):
    assert run("activate", *order_words(admin)).exit_code == 1
    assert run("rollback", *order_words(admin)).exit_code == 1
    run("flash", *order_words(admin), HOUSEHOLD)
    staged = json.loads(run("flash", "--stage", "--json", *order_words(admin), without_net(tmp_path)).stdout)
    assert staged["kind"] == "profiles.stage"
    assert run("plan", *order_words(admin), HOUSEHOLD).stdout == "no change\n"
    assert json.loads(run("activate", "--json", *order_words(admin)).stdout)["kind"] == "profiles.activate"
    assert "group-total" in run("plan", *order_words(admin), HOUSEHOLD).stdout
    assert json.loads(run("rollback", "--json", *order_words(admin)).stdout)["kind"] == "profiles.rollback"
    assert run("plan", *order_words(admin), HOUSEHOLD).stdout == "no change\n"


@pytest.mark.parametrize("word", ["plan", "flash", "activate", "rollback"])
def test_an_id_that_is_none_is_wrong_usage(word, tmp_path):
    files = [HOUSEHOLD] if word in ("plan", "flash") else []
    assert run(word, "--admin", tmp_path, "--gateway", "nobody", *files).exit_code == 2
