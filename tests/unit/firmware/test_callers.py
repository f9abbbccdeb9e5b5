"""FIA_UID.2, FIA_UAU.2, FIA_AFL.1, FAU_SAR.1/CON: who is answered at the control socket, and as whom."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
import tempfile
from itertools import product
from pathlib import Path

import pytest
from typer.testing import CliRunner

from firmware.clock.clock import AdjustableClock
from firmware.config import load
from firmware.enforcement.roles import Reader, Role
from firmware.errors import AccessRefused
from firmware.life.callers import CLOSED_S, TRIES, Callers, Peer, verifier_of, with_code
from firmware.life.care import callers as callers_of
from firmware.life.control import Control, Request
from firmware.log.entry import Event
from firmware.log.journal import Logs
from firmware.log.reading import LogReader
from firmware.log.sealer import Sealer
from firmware.store.stores import Stores
from tests.support.soft_module import SoftModule
from tests.unit.firmware.test_control import GATEWAY, START, asked, serving
from tools.cli import log
from tools.cli.init import make_folder

OWN = 1000
SALT = bytes(range(16))
CODE = "abcd-efgh-jkmn-pqrs-tuvw"


class Door:
    def __init__(self, *roles: Role) -> None:
        self.now_s, self.codes = 0.0, with_code(b"", "anna", verifier_of(CODE, SALT))
        self.callers = Callers(OWN, roles or (Role.SERVICE_TECH,), lambda: self.codes, lambda: self.now_s)

    def ask(self, role: Role, consumer: str = "", code: str = "", uid: int = OWN) -> Reader:
        return self.callers.reader(Peer(uid), role, consumer, code)


@pytest.mark.parametrize(("uid", "role"), list(product((1, 1001, 65534), Role)))
def test_fia_uid_2_another_user_is_nobody(uid: int, role: Role) -> None:
    with pytest.raises(AccessRefused, match=f"user {uid} may ask nothing.*user {OWN}"):
        Door(*Role).ask(role, "anna", CODE, uid)


@pytest.mark.parametrize("uid", [OWN, 0])
def test_the_owner_comes_in_the_roles_of_the_configuration_and_by_the_kernels_name(uid: int) -> None:
    assert Door().ask(Role.SERVICE_TECH, "king", uid=uid) == Reader(Role.SERVICE_TECH, f"user-{uid}")
    assert Door(Role.SERVICE_TECH, Role.GWA).ask(Role.GWA, uid=uid) == Reader(Role.GWA, f"user-{uid}")


@pytest.mark.parametrize("role", [Role.GWA, Role.EMP, Role.CLS_DEVICE])
def test_a_role_that_the_configuration_does_not_name_is_refused_with_a_hint(role: Role) -> None:
    with pytest.raises(AccessRefused, match=rf"{role.value}.*\[control\] roles.*service-tech"):
        Door().ask(role)


def test_fia_uau_2_a_consumer_shows_the_own_code() -> None:
    door = Door(*Role)
    assert door.ask(Role.CONSUMER, "anna", CODE) == Reader(Role.CONSUMER, "anna")
    with pytest.raises(AccessRefused, match=r"shows that consumer's code; `smgw log code --consumer anna`"):
        door.ask(Role.CONSUMER, "anna")
    for consumer, code in (("anna", CODE[:-1]), ("bert", CODE), ("", CODE), ("anna", CODE.upper())):
        with pytest.raises(AccessRefused, match="not the code"):
            door.ask(Role.CONSUMER, consumer, code)
    door.codes = b""
    with pytest.raises(AccessRefused, match="or there is none"):
        door.ask(Role.CONSUMER, "anna", CODE)


@pytest.mark.parametrize(
    "text", [b"nonsense", b"[]", b'{"anna": {}}', b'{"anna": {"salt": "x", "scrypt": ""}}']
)
def test_a_broken_file_of_codes_lets_nobody_in_and_is_not_written_over(text: bytes) -> None:
    door = Door()
    door.codes = text
    with pytest.raises(AccessRefused, match="cannot be used"):
        door.ask(Role.CONSUMER, "anna", CODE)
    with pytest.raises(AccessRefused, match="cannot be used"):
        with_code(text, "anna", verifier_of(CODE, SALT))


def test_fia_afl_1_wrong_codes_close_a_name_for_a_while_and_no_other() -> None:
    door = Door()
    door.codes = with_code(door.codes, "bert", verifier_of("other", SALT))
    for _ in range(TRIES):
        with pytest.raises(AccessRefused, match="not the code"):
            door.ask(Role.CONSUMER, "anna", "guess")
    with pytest.raises(AccessRefused, match="too many"):
        door.ask(Role.CONSUMER, "anna", CODE)  # the right one, too
    assert door.ask(Role.CONSUMER, "bert", "other").name == "bert"
    door.now_s = CLOSED_S - 0.1
    with pytest.raises(AccessRefused, match="too many"):
        door.ask(Role.CONSUMER, "anna", CODE)
    door.now_s = CLOSED_S
    with pytest.raises(AccessRefused, match="not the code"):
        door.ask(Role.CONSUMER, "anna", "guess")
    assert door.ask(Role.CONSUMER, "anna", CODE).name == "anna"


def test_fia_afl_1_a_name_under_attack_is_not_forgotten_among_a_thousand_others() -> None:
    door = Door()
    door.codes = with_code(door.codes, "", verifier_of("other", SALT))  # a name like any other
    for attempt in range(TRIES):
        with pytest.raises(AccessRefused, match="not the code"):
            door.ask(Role.CONSUMER, "anna", "guess")
        for number in range(1000):
            with pytest.raises(AccessRefused):
                door.ask(Role.CONSUMER, f"{attempt}-{number}", "guess")
    with pytest.raises(AccessRefused, match="too many"):
        door.ask(Role.CONSUMER, "anna", CODE)
    assert len(door.callers._failures) == 2
    assert door.ask(Role.CONSUMER, "", "other").name == ""


def test_fia_afl_1_names_without_a_code_close_together_and_a_new_code_opens_its_name() -> None:
    door = Door()
    for number in range(TRIES):
        with pytest.raises(AccessRefused, match="or there is none"):
            door.ask(Role.CONSUMER, f"stranger-{number}", "guess")
    with pytest.raises(AccessRefused, match="too many"):
        door.ask(Role.CONSUMER, "bert", "other")
    assert door.ask(Role.CONSUMER, "anna", CODE).name == "anna"
    door.codes = with_code(door.codes, "bert", verifier_of("other", SALT))
    assert door.ask(Role.CONSUMER, "bert", "other").name == "bert"
    door.now_s = CLOSED_S
    with pytest.raises(AccessRefused, match="or there is none"):
        door.ask(Role.CONSUMER, "carl", "guess")


def test_failures_of_a_name_whose_code_was_taken_away_are_let_go_of() -> None:
    door = Door()
    with pytest.raises(AccessRefused, match="not the code"):
        door.ask(Role.CONSUMER, "anna", "guess")
    door.codes = with_code(b"", "bert", verifier_of("other", SALT))
    with pytest.raises(AccessRefused, match="not the code"):
        door.ask(Role.CONSUMER, "bert", "guess")
    assert door.callers._failures.keys() == {"bert"}


def test_what_is_kept_of_a_code_is_not_the_code() -> None:
    assert CODE.encode() not in Door().codes
    with pytest.raises(ValueError, match="16 bytes"):
        verifier_of(CODE, b"short")


def test_no_code_is_shown() -> None:
    assert "abc" not in repr(Request(op="log", consumer_code="abc", code="abcd"))


# --- through the socket -------------------------------------------------------------------------------------


async def test_the_kernels_word_counts_and_refusals_are_logged(tmp_path) -> None:
    path, told = tmp_path / "control.sock", []
    async with await Stores.open(tmp_path / "state", SoftModule()) as stores:
        clock = AdjustableClock(START)
        logs = Logs(stores, clock)
        await logs.consumer("anna").write(Event.DATA_SENT)
        await logs.consumer("bert").write(Event.DATA_SENT)

        async def refused(*what) -> None:
            told.append(what)

        reader = LogReader(logs, clock, GATEWAY, signer=Sealer(logs, SoftModule(), clock, GATEWAY))
        codes = with_code(b"", "anna", verifier_of(CODE, SALT))
        control = Control(
            path, reader, {}, callers=Callers(os.geteuid(), codes=lambda: codes), refused=refused
        )
        ask = {"op": "log", "log": "consumer", "role": "consumer", "consumer": "anna", "name": "anna"}
        async with serving(control):
            mine, no_code, wrong, other, gwa, emp, system, calibration = await asked(
                path,
                *(
                    json.dumps(one).encode()
                    for one in (
                        {**ask, "consumer_code": CODE},
                        ask,
                        {**ask, "consumer_code": "x"},
                        {**ask, "consumer_code": CODE, "consumer": "bert"},
                        {"op": "log", "role": "gwa", "log": "calibration"},
                        {"op": "log", "role": "emp"},
                        {"op": "log", "name": "somebody else"},
                        {"op": "log", "log": "calibration"},
                    )
                ),
            )
        assert [one["event"] for one in mine["entries"]] == ["data-sent"]
        for answer in (no_code, wrong, other, gwa, emp, calibration):
            assert answer["error"]["code"] == "access"
        assert "bert" not in json.dumps(other["error"]).replace("consumer/anna may not", "")
        assert {what[1] for what in told} == {os.geteuid()}
        assert len(told) == 4  # what the role table refuses, the reader logs by itself
        readers = {entry.user for entry in await logs.system.entries()}
        assert readers >= {f"service-tech/user-{os.geteuid()}"}
        assert "somebody else" not in str(readers)
        assert system["entries"]


async def test_fia_uid_2_a_process_of_another_user_gets_nothing_even_if_it_can_connect() -> None:
    script = (
        "import os, socket, sys\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"  # root is let in
        "line = socket.socket(socket.AF_UNIX); line.connect(sys.argv[1])\n"
        'line.sendall(b\'{"op":"status"}\\n\'); print(line.makefile().readline())\n'
    )
    with tempfile.TemporaryDirectory() as name:  # not below pytest's own folder, which it closes to others
        path = Path(name) / "control.sock"
        path.parent.chmod(0o711)
        async with serving(Control(path, None, {}, callers=Callers(4711))):
            path.chmod(0o777)
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", script, str(path),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, said = await child.communicate()
    assert said == b""
    assert json.loads(out)["error"]["code"] == "access"
    assert f"user {os.geteuid() or 65534} may ask nothing" in json.loads(out)["error"]["message"]


async def test_the_code_that_the_tool_makes_is_taken_and_a_newer_one_replaces_it(tmp_path) -> None:
    make_folder(tmp_path / "gw", gateway_id="ESGW0100000001")
    configuration = tmp_path / "gw" / "gateway.toml"
    words = ["code", "-c", str(configuration), "--consumer", "anna", "--json"]
    early = CliRunner().invoke(log.app, words)
    assert (early.exit_code, "ever run" in early.stderr) == (1, True)
    (tmp_path / "gw" / "state").mkdir(mode=0o700)
    first = json.loads(CliRunner().invoke(log.app, words).stdout)["code"]
    settings = load(configuration)
    door = callers_of(settings, lambda: 0.0)
    assert door.reader(Peer(os.geteuid()), Role.CONSUMER, "anna", first).name == "anna"
    second = json.loads(CliRunner().invoke(log.app, words).stdout)["code"]
    assert second != first
    with pytest.raises(AccessRefused):
        door.reader(Peer(os.geteuid()), Role.CONSUMER, "anna", first)
    assert door.reader(Peer(os.geteuid()), Role.CONSUMER, "anna", second).name == "anna"
    file = tmp_path / "gw" / "state" / "consumer-codes.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)  # whoever can read it can guess at leisure, whoever can write it comes in
    with pytest.raises(AccessRefused, match="cannot be used"):
        door.reader(Peer(os.geteuid()), Role.CONSUMER, "anna", second)
