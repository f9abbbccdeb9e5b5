"""The list of parsers that outside bytes reach is whole, and each is fed 10^5 inputs in every run.

A parser is found by its shape: public, takes bytes or text, and says what it raises or is called `receive`
or `feed`. A new one that is not listed here fails; so does a harness that feeds less.
"""

from __future__ import annotations

import ast
import importlib
import random
import sys
from pathlib import Path
from types import FrameType

import pytest

from tests.architecture.source import ROOT

RADIO, WIRED, PAIRING, STICKS = (
    f"tests.unit.lmn.{name}"
    for name in ("test_decoder_fuzz", "test_wired_fuzz", "test_pairing", "test_sticks")
)
CARD = "tests.unit.hsm.test_parsers_fuzz"
OWN = "no outside bytes"
"""It is given what we made ourselves, or what our own files say: configuration, keys, messages to send."""

PARSERS = {
    "mbus.compact FormatCache.learn_format_frame": RADIO,
    "mbus.compact FormatCache.expand": RADIO,
    "mbus.decoder decode": RADIO,
    "mbus.dif variable_size": RADIO,
    "mbus.fragments Fragments.take": RADIO,
    "mbus.records header_end": RADIO,
    "mbus.records parse": RADIO,
    "mbus.records parse_with_headers": RADIO,
    "mbus.security.derivation wired_keys": OWN,
    "mbus.security.link_ctr decrypt": RADIO,
    "mbus.security.mode10 decrypt": RADIO,
    "mbus.security.mode5 decrypt_cbc": RADIO,
    "mbus.security.mode7 check_mac": RADIO,
    "mbus.security.mode7 decrypt": RADIO,
    "mbus.transport parse": RADIO,
    "mbus.transport parse_upper": RADIO,
    "mbus.wired_frame application_of": RADIO,
    "mbus.wired_frame layers_of": RADIO,
    "model MeterId.from_text": OWN,
    "model Obis.from_text": OWN,
    "serial_port borrowed": OWN,
    "sml.codec header": WIRED,
    "sml.codec decode": WIRED,
    "sml.messages read_message": WIRED,
    "sml.messages read_messages": WIRED,
    "sml.messages read_frame": WIRED,
    "sml.readings meter_of": WIRED,
    "sml.transport contents": WIRED,
    "sml.transport one_frame": WIRED,
    "sml.transport SmlDeframer.receive": WIRED,
    "sml.values read_entries": WIRED,
    "sml.values read_tree": WIRED,
    "wired.hdlc HdlcFrame.from_bytes": WIRED,
    "wired.hdlc HdlcDeframer.receive": WIRED,
    "wired.link _Numbered.send": OWN,
    "wired.pairing split_der": PAIRING,
    "wired.pairing Pairing.answered": PAIRING,
    "wired.registers confirm_write": WIRED,
    "wired.registers answers": WIRED,
    "wired.sym seal": OWN,
    "wired.sym unseal": PAIRING,
    "wmbus.core Core.receive": STICKS,
    "wmbus.driver WmbusStick.of_kind": OWN,
    "wmbus.frame check_bare": RADIO,
    "wmbus.frame from_format_a": RADIO,
    "wmbus.frame from_format_b": RADIO,
    "wmbus.frame to_format_b": OWN,
    "wmbus.lines Lines.feed": STICKS,
    "wmbus.link StickCore.receive": STICKS,
    "wmbus.sticks.im871a build_message": OWN,
    "wmbus.sticks.im871a Im871a.receive": STICKS,
    "wmbus.sticks.im871a_config SetConfiguration.from_payload": RADIO,
    "wmbus.sticks.im871a_config DeviceInformation.from_payload": RADIO,
    "wmbus.sticks.replay parse_line": RADIO,
    "wmbus.sticks.rtl_433 to_telegram": STICKS,
    "wmbus.transport nature": OWN,
}
"""Module of lmn and name -> who feeds it."""
PROTOCOLS = {"wmbus.link StickCore.receive"}
"""Only a shape; the cores that have it are fed."""


def _takes_input(function: ast.FunctionDef) -> bool:
    if function.name.startswith("_"):
        return False
    arguments = function.args.args + function.args.kwonlyargs
    kinds = {ast.unparse(each.annotation) for each in arguments if each.annotation is not None}
    says = "Raises" in (ast.get_docstring(function) or "") or function.name in ("receive", "feed")
    return bool(kinds & {"bytes", "str"}) and says


def parsers_of(package: Path) -> set[str]:
    """Every function and method of a package that takes input, as "module name" or "module Class.name"."""
    found = set[str]()
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = ".".join(path.relative_to(package).with_suffix("").parts)
        for scope in (tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))):
            owner = f"{scope.name}." if isinstance(scope, ast.ClassDef) else ""
            found |= {
                f"{module} {owner}{each.name}"
                for each in scope.body
                if isinstance(each, ast.FunctionDef) and _takes_input(each)
            }
    return found


def test_every_parser_is_listed() -> None:
    assert parsers_of(ROOT / "lmn") == PARSERS.keys()


@pytest.mark.parametrize("harness", sorted({*PARSERS.values(), CARD} - {OWN}))
def test_each_is_fed_a_hundred_thousand_inputs(harness: str) -> None:
    module = importlib.import_module(harness)
    assert module.ROUNDS == 100_000
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    assert "ROUNDS" in source.replace("ROUNDS = 100_000", "")  # and it is used
    assert "ROUNDS //" not in source


def _feed(harness: str) -> None:
    """A few inputs of a harness, by the functions that its test of 10^5 calls."""
    module = importlib.import_module(harness)
    if harness == RADIO:
        for name in module.PARSERS:
            module.hostile(name, 400, 3)
    elif harness == WIRED:
        rng = random.Random(20)
        for parser in module.PARSERS:
            for _ in range(400):
                parser(rng)
    elif harness == PAIRING:
        module.hostile(400, 1)
        module.hostile_der(400, 2)
    else:
        for kind in module.KINDS:
            module.hostile(kind, 400)


@pytest.mark.parametrize("harness", [RADIO, WIRED, PAIRING, STICKS])
def test_each_is_reached_by_who_is_said_to_feed_it(harness: str) -> None:
    package, reached = str(ROOT / "lmn") + "/", set[str]()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and (file := frame.f_code.co_filename).startswith(package):
            module = file.removeprefix(package).removesuffix(".py").replace("/", ".")
            reached.add(f"{module} {frame.f_code.co_qualname}")

    importlib.import_module(harness)
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        _feed(harness)
    finally:
        sys.setprofile(before)
    wanted = {name for name, who in PARSERS.items() if who == harness}
    assert wanted - reached - PROTOCOLS == set()


def test_a_parser_that_is_not_listed_is_found(tmp_path: Path) -> None:
    (tmp_path / "new.py").write_text(
        'def read(data: bytes) -> int:\n    """Read.\n\n    Raises:\n        ValueError: no.\n    """\n'
    )
    assert parsers_of(tmp_path) == {"new read"}
