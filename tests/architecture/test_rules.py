"""The source keeps the rules, and each rule can be broken."""

from __future__ import annotations

import pytest

from tests.architecture import rules
from tests.architecture.source import module, modules


@pytest.mark.parametrize("rule", rules.EACH_MODULE, ids=lambda rule: rule.__name__)
def test_every_module_keeps(rule: rules.Rule) -> None:
    broken = [fault for source in modules() for fault in rule(source)]
    assert not broken, f"{rule.__doc__}\n" + "\n".join(broken)


def test_only_the_gate_makes_what_may_leave() -> None:
    assert rules.one_gate(modules()) == []


def test_there_is_a_release_to_guard() -> None:
    assert set(rules.release_classes(modules()).values()) == {rules.RELEASE_HOME}


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        (rules.io_by_name, "lmn.mbus.records", "import asyncio"),
        (rules.io_by_name, "wan.gwa.orders", "def f():\n    from time import monotonic"),
        (rules.io_by_name, "firmware.flow.intake", "from concurrent.futures import Future"),
        (rules.io_by_name, "wan.driver.codec", "import socket"),
        (rules.one_module_a_device, "lmn.wmbus.driver", "import serial"),
        (rules.one_module_a_device, "hsm.transport", "from smartcard.System import readers"),
        (rules.private_parts, "wan.cms.signed", "from hsm.session import ModuleSession"),
        (rules.private_parts, "wan.cms.signed", "from hsm import libcrypto"),
        (rules.private_parts, "firmware.boot", "import hsm.pace"),
        (rules.private_parts, "han.auth", "from lmn.mbus import records"),
        (rules.private_parts, "tools.cli.dcnet", "from firmware.enforcement.dcnet.slot import round"),
        (rules.private_parts, "tools.cli.dcnet", "from firmware.enforcement.dcnet.slot.ledger import Ledger"),
        (rules.private_parts, "tools.cli.log", "from firmware.store.seal import Seal"),
        (rules.foreign_peers, "tools.counterparts.emp", "from hsm.x509 import check_path"),
        (rules.foreign_peers, "tools.counterparts.gwa", "import hsm.tls"),
        (rules.keys_in_the_module, "wan.cms.signed", "ec.generate_private_key(curve)"),
        (rules.keys_in_the_module, "firmware.boot", "from x.ec import EllipticCurvePrivateKey"),
        (rules.keys_in_the_module, "hsm.tls.keys", "libcrypto.d2i_AutoPrivateKey(None, p, n)"),
        (rules.keys_in_the_module, "wan.dial", "context.load_cert_chain('a')"),
        (rules.time_and_chance_come_in, "wan.cms.enveloped", "import os\nos.urandom(16)"),
        (rules.time_and_chance_come_in, "wan.cms.enveloped", "from os import urandom"),
        (rules.time_and_chance_come_in, "wan.cms.enveloped", "def f():\n    import random"),
        (rules.time_and_chance_come_in, "hsm.tls.keys", "from secrets import token_bytes"),
        (rules.time_and_chance_come_in, "firmware.flow.intake", "import datetime\ndatetime.datetime.now()"),
        (rules.time_and_chance_come_in, "firmware.flow.intake", "from datetime import date\ndate.today()"),
        (rules.time_and_chance_come_in, "firmware.supervisor", "import time\ntime.time()"),
        (rules.time_and_chance_come_in, "firmware.profile.model", "from uuid import uuid4"),
        (rules.time_and_chance_come_in, "firmware.store.seal", "AESGCM.generate_key(128)"),
        (rules.small, "lmn.model", "x = 1\n" * 501),
        (rules.documented, "lmn.model", "x = 1"),
        (rules.documented, "lmn.model", '""" """'),
    ],
)
def test_a_rule_finds_what_breaks_it(rule: rules.Rule, name: str, text: str) -> None:
    assert rule(module(name, text))


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        (rules.io_by_name, "lmn.wmbus.driver", "import asyncio"),
        (rules.io_by_name, "hsm.tls.engine", "import threading"),
        (rules.io_by_name, "tools.cli.demo", "import asyncio"),
        (rules.io_by_name, "lmn.mbus.records", "from datetime import datetime"),
        (rules.one_module_a_device, "lmn.serial_port", "import serial"),
        (rules.private_parts, "wan.cms.signed", "from hsm.api import Curve\nfrom hsm import x509"),
        (rules.private_parts, "hsm.client", "from hsm import pace"),
        (
            rules.private_parts,
            "firmware.enforcement.dcnet.service.driver",
            "from firmware.enforcement.dcnet.slot import round",
        ),
        (rules.private_parts, "tools.bench.dcnet", "from firmware.enforcement.dcnet.slot.round import Round"),
        (rules.foreign_peers, "tools.counterparts.emp", "from hsm.x509 import Certificate"),
        (rules.keys_in_the_module, "hsm.emulator.card", "ec.generate_private_key(curve)"),
        (rules.keys_in_the_module, "hsm.tls.context", "libssl.SSL_CTX_use_PrivateKey(context, handle)"),
        (rules.time_and_chance_come_in, "firmware.clock.clock", "import time\ntime.time()"),
        (rules.time_and_chance_come_in, "wan.gwa.client", "clock.now_utc()\nmodule.random(8)"),
        (rules.time_and_chance_come_in, "hsm.pace", "def f(random):\n    return random(8)"),
        (rules.documented, "lmn.model", '"""What it is for."""'),
    ],
)
def test_a_rule_leaves_the_rest_alone(rule: rules.Rule, name: str, text: str) -> None:
    assert rule(module(name, text)) == []


HOME = module("firmware.enforcement.release", "class Clearance(Release): ...\nclass Narrow(Clearance): ...")


@pytest.mark.parametrize(
    "text",
    [
        "class Forged(Release): ...",
        "class Forged(ports.Release): ...",
        "class Forged(Clearance): ...",
        "Clearance(1, 2)",
        "release.Clearance(1, 2)",
        "Clearance.of(1)",
        "Narrow(1)",
        "object.__new__(Clearance)",
    ],
)
def test_a_release_made_elsewhere_is_found(text: str) -> None:
    assert rules.one_gate([HOME, module("firmware.flow.delivery", text)])


@pytest.mark.parametrize("text", ["isinstance(value, Clearance)", "def f(value: Clearance) -> None: ..."])
def test_a_release_may_be_looked_at(text: str) -> None:
    assert rules.one_gate([HOME, module("firmware.flow.delivery", text)]) == []


def test_the_gate_may_make_it() -> None:
    assert rules.one_gate([HOME, module("firmware.enforcement.gate", "Clearance(1)")]) == []
