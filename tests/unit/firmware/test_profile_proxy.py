"""Proxy profiles: every fault at once with its place, beside the rest of a set, kept and not served."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from firmware.errors import ConfigurationRefused
from firmware.life.status import names_of
from firmware.profile import codec
from firmware.profile.check import check, warnings
from firmware.profile.difference import difference
from firmware.profile.model import ProfileSet
from firmware.profile.proxy import (
    NOT_SERVED,
    SESSION_LIMIT_S,
    SUITES,
    ChannelLimits,
    ControllableSystem,
    CurveName,
    MarketParticipant,
    ProxyProfile,
    Suite,
    TlsRules,
    Window,
)
from firmware.profile.registry import SealedProfiles
from firmware.profile.tariffs import Control
from firmware.store.partition import Partition
from hsm.api import Curve
from hsm.tls.profile import SESSION_LIMIT_S as TLS_LIMIT_S
from hsm.tls.profile import Suite12, Suite13
from tests.unit.firmware.fixed_module import module_of
from tests.unit.firmware.profile_set import (
    EMP_SIG,
    EMP_TLS,
    OTHER_TLS,
    T0,
    at,
    billing,
    certificate,
    group_total,
    household,
    meter_profile,
    peer,
    series,
)
from tests.unit.firmware.tariff_task import profile as tariff
from tests.unit.firmware.test_registry import World, order
from tools.cli.status import _profiles

ROOT = Path(__file__).resolve().parents[3]
CLS_KEY = ec.derive_private_key(4711, ec.SECP256R1())
CLS, CLS_AGAIN = certificate("pump.cls", CLS_KEY), certificate("pump.cls", CLS_KEY)
OTHER_CLS, P521 = certificate("car.cls"), certificate("odd.cls", ec.generate_private_key(ec.SECP521R1()))
EMT_TLS = certificate("EMT.TLS")


def device(**changes) -> ControllableSystem:
    return replace(
        ControllableSystem(name="pump", certificates=(CLS,), host="10.0.0.9", port=4433), **changes
    )


def emt(**changes) -> MarketParticipant:
    entry = MarketParticipant(name="emt", host="emt.example", port=8445, tls_certificate=EMT_TLS)
    return replace(entry, **changes)


def proxy(identity: str = "control", **changes) -> ProxyProfile:
    made = ProxyProfile(
        id=identity,
        consumer="household",
        device=device(),
        emt=emt(),
        opened_by=("cls",),
        local_name="control.pump",
        valid_from=T0,
    )
    return replace(made, **changes)


def scheduled(**changes) -> ProxyProfile:
    return proxy(**{"opened_by": ("gateway",), "local_name": None, "open_every_s": 3600, **changes})


def with_proxy(*proxies: ProxyProfile, **changes) -> ProfileSet:
    return household(proxy=proxies, **changes)


def places(profiles: ProfileSet) -> set[str]:
    return {problem.place for problem in check(profiles, small_nets_allowed=False)}


FULL = proxy(
    device=device(certificates=(CLS, OTHER_CLS)),
    emt=emt(server_name="emt.example"),
    opened_by=("cls", "emt", "gateway"),
    addressing=("sni",),
    open_every_s=900,
    windows=(Window(begins="00:00", ends="06:00"), Window(days=("sunday",), begins="06:00", ends="24:00")),
    limits=ChannelLimits(idle_s=60, duration_s=3600, volume_bytes=1000),
    han=TlsRules(versions=("1.3",), suites=SUITES["1.3"], curves=("secp256r1",)),
    valid_until=at(86400),
)


@pytest.mark.parametrize(
    "one",
    [proxy(), scheduled(), proxy(opened_by=("emt",), local_name=None), FULL],
    ids=["cls", "gw", "emt", "all"],
)
def test_a_good_one_is_well_and_reads_back(one):
    profiles = with_proxy(one)
    assert check(profiles, small_nets_allowed=False) == []
    assert warnings(profiles) == []
    assert codec.from_json(codec.to_json(profiles), small_nets_allowed=False) == profiles


def test_a_set_without_one_reads_the_same_in_versions_that_know_none():
    assert b"proxy" not in codec.to_json(household())
    assert codec.to_json(ProfileSet()) == b"{}"


def test_every_fault_of_form_is_named_at_once():
    document = json.loads(codec.to_json(with_proxy(FULL)))
    one = document["proxy"][0]
    one["opened_by"] = ["neighbour"]
    one["local_name"] = "Upper"
    one["addressing"] = []
    one["open_every_s"] = 0
    one["windows"][0]["begins"] = "24:00"
    one["windows"][1]["days"] = ["someday"]
    one["device"]["certificates"] = []
    one["device"]["host"] = "a b"
    one["device"]["port"] = 0
    one["emt"]["host"] = "https://emt.example"
    one["emt"]["port"] = 65536
    one["limits"] = {"idle_s": 0, "duration_s": SESSION_LIMIT_S + 1, "volume_bytes": 0}
    one["han"] = {"versions": ["1.1"], "suites": ["TLS_NULL_WITH_NULL_NULL"], "curves": ["secp521r1"]}
    one["wan"] = {"surprise": 1}
    one["valid_from"] = "2026-01-01T00:00:00"
    del one["consumer"]
    with pytest.raises(ConfigurationRefused) as refused:
        codec.from_json(json.dumps(document).encode(), small_nets_allowed=False)
    assert {fault.key.removeprefix("proxy[0].") for fault in refused.value.faults} == {
        "opened_by[0]", "local_name", "addressing", "open_every_s", "windows[0].begins", "windows[1].days[0]",
        "device.certificates", "device.host", "device.port", "emt.host", "emt.port", "limits.idle_s",
        "limits.duration_s", "limits.volume_bytes", "han.versions[0]", "han.suites[0]", "han.curves[0]",
        "wan.surprise", "valid_from", "consumer",
    }  # fmt: skip


PSEUDONYM = billing("grid", processing="grid", purpose="grid", pseudonymised=True)
GRID = tariff(10, id="grid", recipients=("emp",))

BAD = [
    (proxy(valid_from=at(0.5)), "valid_from"),
    (proxy(valid_until=T0), "valid_until"),
    (proxy(valid_until=at(1e6 + 0.5)), "valid_until"),
    (proxy(opened_by=("cls", "cls")), "opened_by[1]"),
    (proxy(addressing=("sni", "sni")), "addressing[1]"),
    (proxy(local_name=None), "local_name"),
    (scheduled(local_name="a"), "local_name"),
    (scheduled(open_every_s=None), "open_every_s"),
    (proxy(open_every_s=900), "open_every_s"),
    (scheduled(device=device(host=None)), "device.host"),
    (scheduled(device=device(port=None)), "device.port"),
    (proxy(device=device(port=None)), "device.port"),
    (proxy(windows=(Window(begins="06:00", ends="06:00"),)), "windows[0].ends"),
    (proxy(windows=(Window(days=("monday", "monday"), begins="06:00", ends="07:00"),)), "windows[0].days[1]"),
    (
        proxy(windows=(Window(begins="06:00", ends="08:00"),
                       Window(days=("sunday",), begins="07:59", ends="24:00"))),
        "windows[1]",
    ),
    (
        proxy(windows=(Window(begins="00:00", ends="24:00"), Window(begins="01:00", ends="02:00"),
                       Window(begins="03:00", ends="04:00"))),
        "windows[2]",
    ),
    (proxy(limits=ChannelLimits(idle_s=61, duration_s=60)), "limits.idle_s"),
    (proxy(han=TlsRules(versions=("1.2", "1.2"), suites=SUITES["1.2"])), "han.versions[1]"),
    (proxy(wan=TlsRules(suites=(*SUITES["1.2"], *SUITES["1.3"][:2], SUITES["1.3"][0]))), "wan.suites[6]"),
    (proxy(wan=TlsRules(curves=("secp256r1", "secp256r1"))), "wan.curves[1]"),
    (proxy(wan=TlsRules(suites=SUITES["1.2"])), "wan.suites"),
    (proxy(wan=TlsRules(versions=("1.3",))), "wan.suites[0]"),
    (proxy(device=device(certificates=("no",))), "device.certificates[0]"),
    (proxy(device=device(certificates=(CLS, CLS))), "device.certificates[1]"),
    (proxy(device=device(certificates=(CLS, P521))), "device.certificates[1]"),
    (proxy(han=TlsRules(curves=("brainpoolP256r1",))), "device.certificates[0]"),
    (proxy(emt=emt(tls_certificate="no")), "emt.tls_certificate"),
    (proxy(emt=emt(tls_certificate=CLS_AGAIN)), "emt.tls_certificate"),
    (proxy(emt=emt(name="emp")), "emt.tls_certificate"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "place"), BAD, ids=[f"{n}-{place}" for n, (_, place) in enumerate(BAD)])
def test_each_check_refuses_and_nothing_else_does(one, place):
    found = places(with_proxy(one))
    assert f"proxy[0].{place}" in found
    allowed = {"proxy[0].windows[1]"} if place == "windows[2]" else set()
    if place != "wan.suites[0]":  # there each suite of the version is named
        assert found <= {f"proxy[0].{place}"} | allowed


@pytest.mark.parametrize(
    ("second", "place"),
    [
        (proxy(local_name="b"), "proxy[1].id"),
        (proxy("b"), "proxy[1].local_name"),
        (proxy("b", local_name="b", device=device(port=1)), "proxy[1].device"),
        (proxy("b", local_name="b", consumer="neighbour"), "proxy[1].consumer"),
        (proxy("b", local_name="b", emt=emt(tls_certificate=OTHER_TLS)), "proxy[1].emt.tls_certificate"),
        (proxy("b", local_name="b", device=device(name="car", certificates=(OTHER_CLS, CLS_AGAIN))),
         "proxy[1].device.certificates[1]"),
    ],
)  # fmt: skip
def test_profiles_must_agree(second, place):
    assert places(with_proxy(proxy(), second)) == {place}


def test_one_device_may_have_channels_to_two_participants():
    other = emt(name="other", host="other.example", tls_certificate=OTHER_TLS)
    assert places(with_proxy(proxy(), proxy("b", local_name="b", emt=other))) == set()


def test_a_device_is_that_of_the_consumer_whose_tariff_switches_it():
    switching = tariff(11, id="switching", control=Control(cls_device="pump", events=("off",)))
    whole = with_proxy(proxy(), processing=(*household().processing, switching))
    assert places(whole) == set()
    assert places(replace(whole, proxy=(proxy(consumer="neighbour"),))) == {"proxy[0].consumer"}


@pytest.mark.parametrize(
    "same",
    [
        {"name": "emp", "tls_certificate": EMP_TLS},
        {"host": "EMP.example", "port": 443},
        {"tls_certificate": EMP_TLS},
        {"tls_certificate": EMP_SIG},
    ],
)
def test_who_gets_something_under_a_pseudonym_gets_no_channel(same):
    """Its TLS would show the participant which gateway it is."""
    profiles = ProfileSet(
        meters=(meter_profile(),),
        processing=(GRID,),
        communication=(PSEUDONYM,),
        proxy=(proxy(emt=emt(**same)),),
    )
    assert places(profiles) == {"proxy[0].emt"}
    assert places(replace(profiles, proxy=(proxy(),))) == set()
    neighbours = (proxy(emt=emt(**same), consumer="neighbour"),)
    assert places(replace(profiles, proxy=neighbours)) == {"proxy[0].emt"}


def test_a_channel_of_another_consumer_to_who_knows_the_gateway_anyway():
    known = billing("neighbours", processing="neighbours", peer=peer())
    profiles = ProfileSet(
        meters=(meter_profile(), meter_profile(id="b", meter="ELS-87654321-33-02", consumer="neighbour")),
        processing=(GRID, series("neighbours", meter="ELS-87654321-33-02", consumer="neighbour")),
        communication=(PSEUDONYM, known),
        proxy=(proxy(consumer="neighbour", emt=emt(name="emp", tls_certificate=EMP_TLS)),),
    )
    assert places(profiles) == set()
    assert places(replace(profiles, proxy=(replace(profiles.proxy[0], consumer="household"),))) == {
        "proxy[0].emt"
    }


def test_what_a_device_sends_to_the_recipient_of_a_concealed_profile_is_a_warning():
    to_supplier = proxy(emt=emt(name="emp", tls_certificate=EMP_TLS))
    assert [one.place for one in warnings(with_proxy(to_supplier))] == ["proxy[0].emt"]
    assert warnings(with_proxy(replace(to_supplier, consumer="neighbour"))) == []
    assert warnings(with_proxy(to_supplier, communication=(billing(),))) == []


@pytest.mark.parametrize(
    ("every_s", "start", "window", "meets"),
    [
        (86400, 0, Window(begins="01:00", ends="01:01"), True),  # 00:00 UTC is 01:00 in winter
        (86400, 0, Window(begins="02:00", ends="02:01"), True),  # and 02:00 in summer
        (86400, 0, Window(begins="02:01", ends="24:00"), False),
        (86400, 0, Window(begins="00:00", ends="01:00"), False),
        (7 * 86400, 0, Window(days=("thursday",), begins="00:00", ends="24:00"), True),  # 2026-01-01
        (7 * 86400, 0, Window(days=("wednesday", "friday"), begins="00:00", ends="24:00"), False),
        (7 * 86400, -3601, Window(days=("wednesday",), begins="23:59", ends="24:00"), True),
        (86400 * 2, 0, Window(days=("friday",), begins="00:00", ends="24:00"), True),
    ],
)
def test_an_opening_that_no_window_ever_allows_is_a_warning(every_s, start, window, meets):
    found = warnings(with_proxy(scheduled(open_every_s=every_s, valid_from=at(start), windows=(window,))))
    assert [one.place for one in found] == ([] if meets else ["proxy[0].open_every_s"])


def test_the_lists_are_those_of_the_tls_that_will_serve():
    assert SESSION_LIMIT_S == TLS_LIMIT_S
    assert {name.replace("secp256r1", "prime256v1") for name in get_args(CurveName)} == {
        one.value for one in Curve
    }
    assert set(TlsRules().suites) == set(get_args(Suite))
    assert {name for names in SUITES.values() for name in names} == set(get_args(Suite))
    assert set(SUITES["1.3"]) == {one.value for one in Suite13}
    openssl = {
        name.removeprefix("TLS_").replace("WITH_AES_", "AES").replace("_CBC", "").replace("_", "-")
        for name in SUITES["1.2"]
    }
    assert openssl == {one.value for one in Suite12}


def test_difference_names_whom_it_concerns_and_prints_no_certificate():
    before = ProfileSet(proxy=(proxy(),))
    changed = proxy(device=device(certificates=(CLS, OTHER_CLS)), emt=emt(port=1), opened_by=("cls", "emt"))
    (change,) = difference(before, ProfileSet(proxy=(changed,)))
    assert (change.table, change.identity, change.consumers) == ("proxy", "control", {"household"})
    fields = {one.place: (one.before, one.after) for one in change.fields}
    assert fields.keys() == {"device.certificates", "emt.port", "opened_by"}
    assert fields["emt.port"] == (8445, 1)
    ours, both = fields["device.certificates"]
    assert (len(ours), len(both), both[0]) == (1, 2, ours[0])
    assert "BEGIN" not in str(change)
    (added,) = difference(ProfileSet(), before)
    assert (added.kind.value, added.consumers) == ("added", {"household"})


TOML = """
[[proxy]]
id = "control"
consumer = "household"
opened_by = ["cls"]
local_name = "control.pump"
valid_from = 2026-01-01T00:00:00Z
[proxy.device]
name = "pump"
certificates = ["cls.pem", "new.pem"]
[proxy.emt]
name = "emt"
host = "emt.example"
port = 8445
tls_certificate = "emt.pem"
"""


def test_toml_takes_certificates_from_files_and_names_those_it_cannot_read(tmp_path):
    path = tmp_path / "set.toml"
    path.write_text(TOML)
    with pytest.raises(ConfigurationRefused) as refused:
        codec.from_toml(path, small_nets_allowed=False)
    assert {fault.key for fault in refused.value.faults} == {
        "proxy[0].device.certificates[0]",
        "proxy[0].device.certificates[1]",
        "proxy[0].emt.tls_certificate",
    }
    assert {fault.line for fault in refused.value.faults} == {10, 15}
    for name, text in (("cls", CLS), ("new", OTHER_CLS), ("emt", EMT_TLS)):
        (tmp_path / f"{name}.pem").write_text(text)
    (one,) = codec.from_toml(path, small_nets_allowed=False).proxy
    assert one == proxy(device=device(certificates=(CLS, OTHER_CLS), host=None, port=None))


async def test_staged_activated_and_rolled_back_and_never_said_to_run():
    world, profiles = World(), with_proxy(FULL)
    await world.registry.apply(order(household()))
    staged = await world.registry.apply(order(profiles, 2, kind="profiles.stage"))
    assert staged.reason == "version 2 is staged: +proxy/control"
    assert world.registry.active == household()
    active = await world.registry.apply(order(b'{"version": 2}', 3, kind="profiles.activate"))
    assert active.reason.startswith(
        f"version 2 is active, by version 3 (proxy profiles: {NOT_SERVED}): +proxy"
    )
    assert world.registry.active == profiles
    assert [one.consumer for one in world.store.news][-1] == "household"
    assert NOT_SERVED in world.store.news[-1].text
    assert (await world.registry.apply(order(profiles, 3, identity="late"))).code == "version"
    back = await world.registry.apply(order(b"{}", 4, kind="profiles.rollback"))
    assert back.reason == "rolled back, by version 4: -proxy/control"
    assert world.registry.active == household()


def test_status_says_that_none_is_served():
    told = {"version": 3, **names_of(with_proxy(proxy()))}
    assert told["proxy"] == [{"id": "control", "state": NOT_SERVED}]
    assert dict(_profiles(told)) == {
        "profiles": "version 3: bill, series, billing, total",
        "proxies": f"control ({NOT_SERVED})",
    }
    assert dict(_profiles({"version": 0, **names_of(ProfileSet())}))["proxies"] == "none"


async def test_no_connection_may_lead_to_the_participant():
    world = World()
    assert (await world.registry.apply(order(with_proxy(FULL)))).accepted
    assert set(world.registry.peers()) == {"emp"}


async def test_a_broken_one_leaves_the_active_set_alone():
    world = World()
    await world.registry.apply(order(with_proxy(proxy())))
    broken = with_proxy(proxy(local_name=None, valid_until=T0), communication=(group_total(processing="no"),))
    receipt = await world.registry.apply(order(broken, 2))
    assert (receipt.accepted, receipt.code) == (False, "invalid")
    for place in ("proxy[0].local_name", "proxy[0].valid_until", "communication[0].processing"):
        assert place in receipt.reason
    assert world.registry.active == with_proxy(proxy())


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from firmware.profile.registry import SealedProfiles
from firmware.store.partition import Partition
from tests.unit.firmware.fixed_module import module_of
from tests.unit.firmware.test_registry import World, order
from tools.cli.status import _profiles

async def main():
    async with await Partition.open(Path(sys.argv[1]), "system", module_of()) as partition:
        world = World(SealedProfiles(partition))
        await world.registry.load()
        receipt = await world.registry.apply(order(sys.stdin.buffer.read()))
        os.write(1, receipt.code.encode())
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.fixture
def killed_store(tmp_path):
    """What a process left that was killed right after an order had been carried out."""
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "system.db")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=codec.to_json(with_proxy(FULL)),
        capture_output=True,
        check=False,
    )
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, b"ok"), killed.stderr.decode()
    return tmp_path / "system.db"


async def test_an_active_one_survives_a_kill(killed_store):
    async with await Partition.open(killed_store, "system", module_of()) as partition:
        world = World(SealedProfiles(partition))
        await world.registry.load()
        assert (world.registry.active, world.registry.version) == (with_proxy(FULL), 1)
