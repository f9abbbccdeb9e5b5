"""`smgw hsm` over each transport: what it shows, what it hides, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hsm.emulator.personalise import new_card
from tests.support.card import PIN
from tests.support.reader import needs_pcsc
from tools.cli.hsm import app
from tools.counterparts.pcscd import SOCKET_VARIABLE, Pcscd, free_pair

RUN = CliRunner()
COMMAND = (sys.executable, "-m", "tools.cli", "hsm")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a personalised emulated card and its PIN."""
    (tmp_path / "pin").write_bytes(PIN + b"\n")
    new_card(tmp_path / "module", PIN)
    ran("personalise", "--transport", f"emulator:{tmp_path / 'module'}", "--requests", str(tmp_path / "csr"))
    return tmp_path


def ran(*arguments: str, code: int = 0) -> Any:
    """Run one command in this process; its JSON if it prints any, else its text."""
    result = RUN.invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if "--json" in arguments and code == 0 else result.output


@contextmanager
def served(home: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`smgw hsm serve` as a process of its own; has said where it is."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--transport", f"emulator:{home / 'module'}", *arguments],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert re.match(r"(listening|calling) ", process.stdout.readline())
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) in (0, -signal.SIGKILL)
        process.stdout.close()


@pytest.fixture(params=["emulator", "tcp", "pcsc"])
def way(request: pytest.FixtureRequest, home: Path) -> Iterator[list[str]]:
    """The same card over each transport."""
    if request.param == "pcsc" and needs_pcsc.args[0]:
        pytest.skip(needs_pcsc.kwargs["reason"])
    with ExitStack() as stack:
        if request.param == "emulator":
            yield ["--transport", f"emulator:{home / 'module'}", "--pin-file", str(home / "pin")]
            return
        port = free_pair()
        stack.enter_context(served(home, "--listen", f"127.0.0.1:{port}"))
        where = f"tcp:127.0.0.1:{port}"
        if request.param == "pcsc":
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smgw-")))
            daemon = stack.enter_context(Pcscd(place, f"127.0.0.1:{port}"))
            os.environ[f"TEST_{SOCKET_VARIABLE}"] = str(daemon.socket)
            stack.callback(os.environ.pop, f"TEST_{SOCKET_VARIABLE}")
            where = "pcsc:atr:3b80800101"
            _wait_for_card(where)
        yield ["--transport", where, "--pin-file", str(home / "pin")]


def child(*arguments: str, code: int = 0) -> Any:
    """As `ran`, for PC/SC in a process of its own: libpcsclite looks for its daemon once in a process."""
    socket = os.environ.get(f"TEST_{SOCKET_VARIABLE}")
    if socket is None:
        return ran(*arguments, code=code)
    environment = {**os.environ, SOCKET_VARIABLE: socket}
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True, text=True, cwd=ROOT, env=environment, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if "--json" in arguments else done.stdout + done.stderr


def _wait_for_card(where: str) -> None:
    for _ in range(50):
        environment = {**os.environ, SOCKET_VARIABLE: os.environ[f"TEST_{SOCKET_VARIABLE}"]}
        done = subprocess.run(
            [*COMMAND, "apdu", "00A4000C", "--plain", "--transport", where],
            cwd=ROOT, env=environment, capture_output=True, timeout=50, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            return
    pytest.fail(done.stderr.decode())


def test_every_command_over_every_way(way: list[str]) -> None:
    about = child("info", *way, "--json")
    assert about["application"] == "selected"
    assert about["pin_tries"] == "all left"
    assert "brainpoolP256r1" in about["pace"]["AES-128"]
    assert [key["slot"] for key in about["keys"]][:3] == ["WAN_TLS", "WAN_SIG", "WAN_ENC"]
    assert any("content" in entry and "certificates" not in entry for entry in about["objects"])
    if not way[1].startswith("emulator"):
        assert about["atr"] == "3b80800101"
    checks = child("selftest", *way, "--json")
    assert checks["ok"]
    assert {"PACE AES-256", "random numbers", "key WAN_SIG"} <= {check["name"] for check in checks["checks"]}
    trace = child("pace", *way, "--json")
    assert [step["step"] for step in trace["steps"]][-4:] == [
        "PACE: get nonce",
        "PACE: map nonce",
        "PACE: key agreement",
        "PACE: mutual authentication",
    ]
    assert all(step["sw"] == "9000" and step["ms"] > 0 for step in trace["steps"])
    assert len(bytes.fromhex(child("apdu", "0084000010", *way, "--json")["data"])) == 16
    assert "SW=6982" in child("apdu", "0084000010", *way, "--plain", code=1)
    assert len(child("personalise", *way, "--replace-keys", "--json", "--id", "ESGW0100000009")) == 3
    after = child("info", *way, "--json")
    assert {key["slot"]: key["sha256"] for key in after["keys"]}.items().isdisjoint(
        {key["slot"]: key["sha256"] for key in about["keys"]}.items()
    )
    assert [one["content"] for one in after["objects"] if one["object"] == "IDENTIFIERS"] == [
        b"ESGW0100000009".hex()
    ]


def test_a_card_that_calls(home: Path) -> None:
    """The other direction of TCP: the command waits, the card of `serve --connect` calls."""
    port = free_pair()
    where = ("--transport", f"tcp-listen:127.0.0.1:{port}", "--pin-file", str(home / "pin"))
    with served(home, "--connect", f"127.0.0.1:{port}"):
        assert ran("info", *where, "--json")["atr"] == "3b80800101"
        assert "SW=9000" in ran("apdu", "0084000008", *where)


# --- in this process: the emulator -------------------------------------------------------------------------


def test_a_trace_shows_no_nonce_and_no_token(home: Path) -> None:
    steps = ran("pace", "--transport", f"emulator:{home / 'module'}", "--json")["steps"]
    for step in steps:
        if step["step"] in ("PACE: get nonce", "PACE: mutual authentication"):
            assert "masked" in step["answer"]
            assert len(step["answer"].partition("...")[0]) <= 8
    text = ran("pace", "--transport", f"emulator:{home / 'module'}")
    assert "PACE" in text
    assert PIN.decode() not in text


def test_for_people(home: Path) -> None:
    where = ("--transport", f"emulator:{home / 'module'}")
    assert "WAN_TLS" in ran("info", *where)
    assert "random numbers" in ran("selftest", *where)
    assert "SW=9000" in ran("apdu", "0084000008", *where)
    assert sorted(path.name for path in (home / "csr").iterdir()) == ["enc.csr", "sig.csr", "tls.csr"]


def test_without_a_pin(tmp_path: Path) -> None:
    new_card(tmp_path / "module", PIN)
    where = ("--transport", f"emulator:{tmp_path / 'module'}")
    assert "keys" not in ran("info", *where, "--json")
    assert "--pin-file" in ran("info", *where)
    assert "--pin-file" in ran("apdu", "0084000008", *where, code=1)
    assert "--pin-file" in ran("selftest", *where, code=1)


def test_personalise_makes_card_and_pin_once(tmp_path: Path) -> None:
    where = ("--transport", f"emulator:{tmp_path / 'a' / 'module'}")
    made = ran("personalise", *where, "--id", "ESGW0100000009", "--json")
    assert made["gateway"] == "ESGW0100000009"
    assert re.fullmatch(r"[0-9]{12}", (tmp_path / "a" / "pin").read_text())
    assert (tmp_path / "a" / "pin").stat().st_mode & 0o077 == 0
    before = ran("info", *where, "--json")["keys"]
    assert "--replace-keys" in ran("personalise", *where, code=1)
    assert ran("info", *where, "--json")["keys"] == before
    ran("personalise", *where, "--replace-keys", "--curve", "secp384r1")
    assert ran("info", *where, "--json")["keys"][0]["curve"] == "secp384r1"


def test_a_wrong_pin_costs_one_try_and_says_so(home: Path) -> None:
    (home / "pin").write_bytes(b"9" * 10)
    where = ("--transport", f"emulator:{home / 'module'}")
    text = ran("apdu", "0084000008", *where, code=1)
    assert "check --pin-file" in text
    assert ran("info", "--transport", f"emulator:{home / 'module'}", "--pin-file", str(home / "none"), code=2)
    (home / "pin").unlink()
    assert ran("info", *where, "--json")["pin_tries"] == "2 left"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("info", "--transport", "usb"), "tcp:HOST:PORT"),
        (("info", "--transport", "emulator"), "emulator:DIR"),
        (("info", "--transport", "tcp:192.0.2.1:1"), "--insecure-remote"),
        (("apdu", "zz", "--transport", "emulator:x"), "no command APDU"),
        (("apdu", "00", "--transport", "emulator:x"), "no command APDU"),
        (("personalise", "--transport", "emulator:x", "--curve", "x"), "brainpoolP256r1"),
        (("personalise", "--transport", "emulator:x", "--id", "ESGW0100000009.SMGW"), "14 characters"),
        (("serve", "--transport", "tcp:127.0.0.1:1"), "only an emulated card"),
        (("serve", "--transport", "emulator:x", "--listen", "0.0.0.0:1"), "--insecure-listen"),
        (("serve", "--transport", "emulator:x", "--connect", "card.example:1"), "--insecure-listen"),
        (("serve", "--transport", "emulator:x", "--connect", "1"), "HOST:PORT"),
        (("serve", "--transport", "emulator:x", "--connect", "a:1", "--listen", "a:1"), "one reader"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert expected in ran(*arguments, code=2)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("info", "--transport", "emulator:nowhere"), "personalise makes one"),
        (("info", "--transport", "tcp:127.0.0.1:1"), "cannot reach the card at 127.0.0.1:1"),
    ],
)
def test_nothing_there(arguments: tuple[str, ...], expected: str) -> None:
    assert expected in ran(*arguments, code=1)


def test_serve_makes_a_card_for_a_pin(tmp_path: Path) -> None:
    (tmp_path / "pin").write_bytes(PIN)
    port = free_pair()
    with served(tmp_path, "--listen", f"127.0.0.1:{port}", "--pin-file", str(tmp_path / "pin")):
        where = ("--transport", f"tcp:127.0.0.1:{port}", "--pin-file", str(tmp_path / "pin"))
        assert "SW=9000" in ran("apdu", "0084000008", *where)
        # Right after a reset, without SELECT: the master file is there, and so is the PIN, reference 03.
        assert "SW=9000" in ran("apdu", "00A4000C023F00", "--plain", *where)
        mse = "0022C1A40F800A04007F00070202040202830103"
        assert "SW=9000" in ran("apdu", mse, "--plain", *where)


def test_a_card_that_is_killed(tmp_path: Path) -> None:
    """A real process, a real SIGKILL: the next command says plainly that nobody is there."""
    (tmp_path / "pin").write_bytes(PIN)
    new_card(tmp_path / "module", PIN)
    port = free_pair()
    where = ("--transport", f"tcp:127.0.0.1:{port}", "--pin-file", str(tmp_path / "pin"))
    with served(tmp_path, "--listen", f"127.0.0.1:{port}") as process:
        assert "SW=9000" in ran("apdu", "0084000008", *where)
        process.kill()
        process.wait()
        assert "cannot reach the card" in ran("apdu", "0084000008", *where, code=1)
    with served(tmp_path, "--listen", f"127.0.0.1:{port}"):
        assert "SW=9000" in ran("apdu", "0084000008", *where)
