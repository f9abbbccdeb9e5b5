from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lmn.sml.codec import signed
from tests.support.sml_frames import SERVER_ID, entry, frame
from tests.support.vectors import vectors
from tools.cli.decode import app
from tools.cli.decode_sml import answer

RUN = CliRunner()
ROOT = Path(__file__).resolve().parents[3]


@vectors("lmn/sml.json")
def test_known_frames(case: dict[str, object]) -> None:
    """Field by field what another implementation read from the same bytes."""
    found = answer(json.dumps({"name": case["id"], "sml_hex": case["frame"]}))
    assert found == {
        "name": case["id"],
        "ok": True,
        "server_id": case["server_id"],
        "entries": case["entries"],
    }


def test_a_stream_counts_what_it_rejects() -> None:
    broken = bytearray(frame())
    broken[60] ^= 1
    stream = b"\xff" * 3 + frame()[-20:] + frame() + bytes(broken) + frame() + frame()[:30]
    found = answer(json.dumps({"name": "s", "stream_hex": stream.hex()}))
    assert (found["frames"], found["rejected"], len(found["entries"])) == (2, 1, 2)
    assert found["entries"][0][2] == {
        "obis": "1-0:1.8.0*255", "raw": 123456, "scaler": -1, "unit": 30, "unit_name": "Wh",
        "value": "12345.6", "status": 0x1C104,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('{"sml_hex": "0"}', "hex"), ('{"sml_hex": null}', "hex"), ('{"stream_hex": 5}', "hex"),
        ('{"sml_hex": ""}', "malformed"), ("[]", "malformed"), ("{", "malformed"), ("{}", "malformed"),
        ("[" * 100_000, "malformed"), (json.dumps({"sml_hex": frame()[:-3].hex()}), "length"),
        (json.dumps({"sml_hex": frame()[:-1].hex() + "00"}), "crc"),
    ],
)  # fmt: skip
def test_bad_lines_have_named_errors(line: str, code: str) -> None:
    found = answer(line)
    assert found["ok"] is False
    assert found["error"]["code"] == code


def test_a_batch_never_stops(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    tasks.write_text('{"name": "a"}\n\n{"name": "b", "sml_hex": "' + frame().hex() + '"}\nnonsense\n')
    result = RUN.invoke(app, ["sml", "--jsonl", str(tasks)])
    assert result.exit_code == 0
    assert [json.loads(line)["ok"] for line in result.stdout.splitlines()] == [False, True, False]


def test_the_table_for_people() -> None:
    result = RUN.invoke(app, ["sml", (b"\x00" + frame() + frame()).hex()], env={"COLUMNS": "150"})
    assert result.exit_code == 0
    assert result.stdout.count(SERVER_ID.hex()) >= 2
    assert "12345.6" in result.stdout
    assert "534d47 (SMG)" in result.stdout


def test_refusal_and_wrong_usage_have_their_codes(tmp_path: Path) -> None:
    assert RUN.invoke(app, ["sml", frame()[:-4].hex()]).exit_code == 1
    assert RUN.invoke(app, ["sml", "zz"]).exit_code == 1
    assert RUN.invoke(app, ["sml"]).exit_code == 2
    assert RUN.invoke(app, ["sml", "--jsonl", str(tmp_path / "none")]).exit_code == 2


def test_the_quirk_is_an_option() -> None:
    raw = frame(entry("0100100700ff", signed(-1, 2), unit=27, scaler=0)).hex()
    assert " -1 " in RUN.invoke(app, ["sml", raw], env={"COLUMNS": "150"}).stdout
    assert "65535" in RUN.invoke(app, ["sml", raw, "--quirk", "dzg-sign"], env={"COLUMNS": "150"}).stdout


def test_standard_input_is_a_batch() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.cli", "decode", "sml", "--jsonl", "-"],
        input=json.dumps({"name": "x", "sml_hex": frame().hex()}) + "\n",
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["server_id"] == SERVER_ID.hex()


def test_one_frame_and_many_as_json() -> None:
    one = RUN.invoke(app, ["sml", frame().hex(), "--json"])
    assert (one.exit_code, json.loads(one.stdout)["ok"]) == (0, True)
    two = RUN.invoke(app, ["sml", frame().hex() * 2, "--json"])
    assert (two.exit_code, json.loads(two.stdout)["frames"]) == (0, 2)
    none = RUN.invoke(app, ["sml", "1b1b", "--json"])
    assert (none.exit_code, json.loads(none.stdout)["ok"]) == (1, False)
