from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lmn.model import MeterId
from lmn.wmbus.frame import size_of_format_a
from tests.support.vectors import load
from tools.cli.decode import HINTS, app
from tools.counterparts import meter_wmbus_telegram as build

CASES = {case["id"]: case for case in load("lmn/telegrams.json")["cases"]}
WHO = build.Sender(MeterId("SMG", "12345678", 1, 2))
KEY = bytes(range(16))
RECORDS = bytes.fromhex("0403D2040000")
RUN = CliRunner()


def batch(*lines: dict[str, Any] | str) -> list[dict[str, Any]]:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    result = RUN.invoke(app, ["wmbus", "--jsonl", "-"], input=text)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def codes(results: list[dict[str, Any]]) -> list[str]:
    return ["ok" if r["ok"] else r["error"]["code"] for r in results]


def test_one_telegram_for_people() -> None:
    case = CASES["V2"]
    result = RUN.invoke(app, ["wmbus", case["telegram"], "--key", case["key"], "--mode", "strict"])
    assert result.exit_code == 0
    assert "28504.27" in result.stdout
    assert "ELS-12345678-33-03" in result.stdout
    assert "mode7, counter 2739" in result.stdout


def test_one_telegram_as_json_is_what_a_batch_answers() -> None:
    case = CASES["V2"]
    good = RUN.invoke(app, ["wmbus", case["telegram"], "--key", case["key"], "--json"])
    bad = RUN.invoke(app, ["wmbus", case["telegram"], "--key", "00" * 16, "--json"])
    telegram = {"name": "", "telegram_hex": case["telegram"]}
    expected = batch(telegram | {"key_hex": case["key"]}, telegram | {"key_hex": "00" * 16})
    assert [json.loads(each.stdout) for each in (good, bad)] == expected
    assert (good.exit_code, bad.exit_code) == (0, 1)


def test_a_refused_telegram_names_the_check() -> None:
    case = CASES["V2"]
    result = RUN.invoke(app, ["wmbus", case["telegram"], "--key", "00" * 16])
    assert result.exit_code == 1
    assert "refused (mac)" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["wmbus"],
        ["wmbus", "00", "--jsonl", "-"],
        ["wmbus", "00", "--key", "xy"],
        ["wmbus", "00", "--mode", "x"],
        ["wmbus", "--jsonl", "/nonexistent/file"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    assert RUN.invoke(app, arguments).exit_code == 2


def test_batch_in_all_forms() -> None:
    v1, v2 = CASES["V1"], CASES["V2"]
    form_b = build.plain(WHO, RECORDS)
    from lmn.wmbus.frame import to_format_b

    results = batch(
        {"name": "a", "frame_a_hex": v1["frame_a"], "key_hex": v1["key"], "mode": "open"},
        {"name": "raw", "telegram_hex": v2["telegram"], "key_hex": v2["key"], "mode": "strict"},
        {"name": "b", "frame_b_hex": to_format_b(form_b).hex(), "key_hex": None},
    )
    assert [r["name"] for r in results] == ["a", "raw", "b"]
    assert codes(results) == ["ok"] * 3
    assert [r["security"] for r in results] == ["mode5", "mode7", "none"]
    assert results[0]["fields"][0] == {
        "function": "inst", "storage": 0, "tariff": 0, "subunit": 0, "quantity": "volume", "unit": "m3",
        "value": "28504.27", "dib_vib": "0c14", "raw": "27048502",
    }  # fmt: skip
    wanted = {"manufacturer": "ELS", "id": "12345678", "version": 51, "type": 3, "access_no": 42, "status": 0}
    assert wanted.items() <= results[0].items()


def test_a_batch_never_stops_at_a_bad_line() -> None:
    v2 = CASES["V2"]
    good = {"name": "good", "telegram_hex": v2["telegram"], "key_hex": v2["key"]}
    results = batch(
        "no json", "[1]", "17", "[" * 5000, {"name": "x"}, {"name": "h", "telegram_hex": "abc"},
        {"name": "n", "telegram_hex": 5}, {"name": "k", "telegram_hex": "00", "key_hex": "zz"},
        {"name": "m", "telegram_hex": "00", "mode": 3}, {"name": "s", "sequence": "aa"},
        {"name": "crc", "frame_a_hex": CASES["V1"]["frame_a"][:-2] + "00"},
        {"name": "short", "telegram_hex": v2["telegram"][:-2]},
        {"name": "no key", "telegram_hex": v2["telegram"]},
        good,
    )  # fmt: skip
    assert codes(results) == [
        *["malformed"] * 5,
        "hex",
        "hex",
        "hex",
        "malformed",
        "malformed",
        "crc",
        "length",
        "key",
        "ok",
    ]
    assert all(r["ok"] or r["error"]["message"] for r in results)


def test_odd_names_come_back() -> None:
    assert [r["name"] for r in batch('{"name": "\\ud800"}', '{"name": ["ü", null]}')] == [
        "\ud800",
        ["ü", None],
    ]


def test_a_sequence_of_rising_counters() -> None:
    telegrams = [build.mode7(WHO, KEY, counter, RECORDS).hex() for counter in (5, 6, 6, 4, 7)]
    forged = telegrams[4][:-2] + "00"
    other = build.mode7(build.Sender(MeterId("SMG", "00000001", 1, 2)), KEY, 9, RECORDS).hex()
    clear = build.plain(WHO, RECORDS).hex()
    weak = build.mode5(WHO, KEY, RECORDS).hex()
    task = {
        "name": "s",
        "sequence": [
            telegrams[0],
            telegrams[0],
            telegrams[1],
            telegrams[2],
            telegrams[3],
            forged,
            other,
            clear,
            weak,
            "xx",
            telegrams[4],
        ],
        "key_hex": KEY.hex(),
        "mode": "open",
    }
    (result,) = batch(task)
    assert codes(result["results"]) == [
        "ok",
        "counter",
        "ok",
        "counter",
        "counter",
        "mac",
        "unknown-meter",
        "downgrade",
        "downgrade",
        "hex",
        "ok",
    ]


def test_a_sequence_without_counters_takes_nothing_twice() -> None:
    first, second = (build.mode5(build.Sender(WHO.meter, n), KEY, RECORDS).hex() for n in (1, 2))
    (result,) = batch({"name": "s", "sequence": [first, second, first], "key_hex": KEY.hex()})
    assert codes(result["results"]) == ["ok", "ok", "counter"]


def test_every_code_has_a_hint() -> None:
    from lmn import errors

    known = {e.code for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.LmnError)}
    assert known | {"hex"} <= set(HINTS)


def test_a_file(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_bytes(
        b'{"name": "clear", "telegram_hex": "' + build.plain(WHO, RECORDS).hex().encode() + b'"}\n\xff\n'
    )
    result = RUN.invoke(app, ["wmbus", "--jsonl", str(tasks)])
    assert codes([json.loads(line) for line in result.stdout.splitlines()]) == ["ok", "malformed"]


def _pairs(digits: str, mark: str) -> str:
    return mark.join(digits[place : place + 2] for place in range(0, len(digits), 2))


V1, V2 = CASES["V1"], CASES["V2"]
WRITTEN = {
    "bars": f"|{V2['telegram'][:22]}|{V2['telegram'][22:]}|",
    "underscores": V2["telegram"][:22] + "_" + V2["telegram"][22:],
    "spaces": _pairs(V2["telegram"], " "),
    "colons": _pairs(V2["telegram"], ":"),
    "one 0x": "0x" + V2["telegram"],
    "0x before each byte": "0x" + _pairs(V2["telegram"], " 0x"),
    "lower case": V2["telegram"].lower(),
    "simulation line": f"telegram=|{V2['telegram'][:22]}_{V2['telegram'][22:]}|+32",
    "simulation line without a time": f"telegram=|{V2['telegram']}|",
    "with link CRCs": V2["frame_a"],
    "with link CRCs and marks": f"telegram=|{_pairs(V2['frame_a'], '_')}|",
    "byte order mark": "\ufeff" + V2["telegram"],
    "blanks around": f"  {V2['telegram']}\t\r",
}


@pytest.mark.parametrize("form", sorted(WRITTEN))
def test_telegrams_as_people_write_them(form: str) -> None:
    text = WRITTEN[form]
    one = RUN.invoke(app, ["wmbus", text.removeprefix("\ufeff"), "--key", _pairs(V2["key"], " ")])
    assert one.exit_code == 0, one.output
    result = RUN.invoke(
        app, ["wmbus", "--jsonl", "-", "--key", V2["key"], "--mode", "strict"], input=text + "\n"
    )
    (answer,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert (answer["name"], answer["ok"], answer["security"]) == (None, True, "mode7")
    if "CRCs" not in form and "mark" not in form.split():
        (same,) = batch({"name": "n", "telegram_hex": text, "key_hex": V2["key"].upper()})
        assert same["fields"] == answer["fields"]


def test_bare_lines_and_objects_in_one_batch() -> None:
    damaged = V1["frame_a"][:-2] + "00"
    odd, letters, short = V2["telegram"][:-1], V2["telegram"][:-1] + "g", V2["telegram"][:-2]
    form_b = "telegram=12zz"
    results = batch(damaged, odd, letters, short, form_b, {"name": "o", "frame_a_hex": V1["frame_a"]})
    assert codes(results) == ["crc", "hex", "malformed", "length", "hex", "key"]
    assert [r["name"] for r in results] == [None] * 5 + ["o"]


@pytest.mark.parametrize("length", [1, 20])
def test_a_bare_line_is_of_format_b_only_if_all_its_checksums_are_right(length: int) -> None:
    from lmn.wmbus.frame import to_format_b

    frame = to_format_b(build.plain(WHO, RECORDS * length))
    for arguments in ([], ["--frame", "b"]):
        result = RUN.invoke(app, ["wmbus", "--jsonl", "-", *arguments], input=frame.hex())
        assert {f["value"] for f in json.loads(result.stdout)["fields"]} == {"1234"}
    for place in {1, len(frame) // 2, len(frame) - 1}:
        damaged = frame[:place] + bytes((frame[place] ^ 1,)) + frame[place + 1 :]
        result = RUN.invoke(app, ["wmbus", "--jsonl", "-", "--frame", "b"], input=damaged.hex())
        assert codes([json.loads(result.stdout)]) == ["crc"]


def test_one_piece_of_a_message_is_named() -> None:
    whole = build.mode7(WHO, KEY, 1, RECORDS * 5)
    first, *rest = build.in_fragments(whole, 30)
    assert rest
    (answer,) = batch({"name": "p", "telegram_hex": first.hex(), "key_hex": KEY.hex()})
    assert (answer["error"]["code"], "sequence" in answer["error"]["message"]) == ("unsupported", True)
    (alone,) = build.in_fragments(whole, 250)
    assert codes(batch({"name": "a", "telegram_hex": alone.hex(), "key_hex": KEY.hex()})) == ["ok"]


def wired(application: str) -> str:
    body = bytes.fromhex("0801" + application)
    return (b"\x68" + bytes((len(body),)) * 2 + b"\x68" + body + bytes((sum(body) & 0xFF, 0x16))).hex()


WIRED = wired("7278563412a74d01072a000000" + "0c1427048502" + "046d32371f15")


def test_a_wired_frame_is_read_as_what_it_is() -> None:
    (read, bare) = batch({"name": "w", "telegram_hex": WIRED}, WIRED)
    assert {**read, "name": None} == bare
    assert (read["manufacturer"], read["id"], read["version"], read["type"]) == ("SMG", "12345678", 1, 7)
    assert (read["access_no"], read["status"], read["security"]) == (42, 0, "none")
    assert [field["value"] for field in read["fields"]] == ["28504.27", "2008-05-31 23:50"]


def test_a_wired_frame_as_long_as_a_radio_frame_with_checksums() -> None:
    records = "046d32371f15" * 16 + "0f00"
    frame = wired("7278563412a74d01072a000000" + records)
    assert len(bytes.fromhex(frame)) == size_of_format_a(0x68)
    assert codes(batch(frame)) == ["ok"]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (WIRED[:-4] + f"{int(WIRED[-4:-2], 16) ^ 1:02x}16", "crc"),
        (WIRED[:-2], "length"),
        (WIRED + "00", "length"),
        (wired("7a2a0000000c1427048502"), "malformed"),  # nothing says which meter
        (wired("7278563412a74d01072a0000000c142704"), "malformed"),
        (wired("7678563412a74d01072a0000000c1427048502"), "unsupported"),
    ],
)
def test_a_wired_frame_that_is_refused(frame: str, code: str) -> None:
    assert codes(batch(frame)) == [code]
