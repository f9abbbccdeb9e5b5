"""`smgw dcnet compute`: the known answers, random nets against the second computation, and bad files."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.support import dcnet_model as model
from tests.support.vectors import load as known
from tools.cli.dcnet import app
from tools.dcnet.compute import BadNets, computed, differences, load, unknown

RESULTS = {"y", "r", "total", "out", "edges"}
PARTS = ("kdf", "prf", "h_graph", "net")


def form() -> dict[str, Any]:
    """The known answers as strangers hand them over."""
    parts = {part: copy.deepcopy(known(f"dcnet/{part}.json")["cases"]) for part in PARTS}
    for cases in parts.values():
        for case in cases:
            del case["id"]
    return {"scheme": "smgw-dc/1", **parts}


def bare(document: dict[str, Any]) -> dict[str, Any]:
    return {
        part: [{k: v for k, v in case.items() if k not in RESULTS} for case in cases]
        if isinstance(cases, list)
        else cases
        for part, cases in document.items()
    }


def test_every_known_answer_comes_back_from_a_file_without_results() -> None:
    answers = form()
    assert computed(bare(answers)) == answers
    assert differences(answers, computed(bare(answers))) == []
    assert unknown(answers) == []


def test_the_word_prints_the_form_and_compares(tmp_path: Path) -> None:
    answers = form()
    file = tmp_path / "nets.json"
    file.write_text(json.dumps(bare(answers)))
    done = CliRunner().invoke(app, ["compute", str(file), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == answers
    answers["net"][1]["y"]["12"] = "00" * 24
    answers["net"][1]["comment"] = "mine"
    file.write_text(json.dumps(answers))
    done = CliRunner().invoke(app, ["compute", str(file), "--check"])
    assert done.exit_code == 1
    assert "differs: net[1].y: members 12" in done.stderr
    assert "net[1].comment is no field" in done.stderr


@st.composite
def drawn(draw: st.DrawFn) -> dict[str, Any]:
    size, lanes = draw(st.integers(1, 14)), draw(st.integers(1, 9))
    everybody = range(1, size + 1)
    pairs = [(a, b) for a in everybody for b in everybody if a < b]
    edges = draw(st.sets(st.sampled_from(pairs))) if pairs else set()
    salt = draw(st.binary(min_size=4, max_size=4))
    number = st.one_of(st.integers(0, model.RING - 1), st.sampled_from([0, model.RING - 1]))
    net: dict[str, Any] = {
        "n": size,
        "slot": draw(st.integers(0, (1 << 32) - 1)),
        "drop": sorted(draw(st.sets(st.integers(1, size)))),
        "readings": {str(i): [draw(number) for _ in range(lanes)] for i in everybody},
        "edge_epoch_keys": {
            f"{a}-{b}": hashlib.sha256(salt + bytes((a, b))).hexdigest()[:32] for a, b in edges
        },
    }
    net["seeds"] = {
        str(i): hashlib.sha256(salt + bytes((i,))).hexdigest()[:32] for i in everybody if i not in net["drop"]
    }
    if draw(st.booleans()):
        net |= {"prev": draw(st.binary(min_size=32, max_size=32)).hex(), "net": salt.hex() * 2}
    return net


@settings(max_examples=120)
@given(drawn())
def test_random_nets_as_the_second_computation_has_them(net: dict[str, Any]) -> None:
    found = computed(net)
    keys = {
        tuple(map(int, name.split("-"))): bytes.fromhex(key) for name, key in net["edge_epoch_keys"].items()
    }
    seeds = {i: bytes.fromhex(net["seeds"].get(str(i), "00" * 16)) for i in range(1, net["n"] + 1)}
    accepted = set(range(1, net["n"] + 1)) - set(net["drop"])
    expected = model.whole_slot(
        {int(i): tuple(reading) for i, reading in net["readings"].items()},
        keys,  # type: ignore[arg-type]
        keys,  # type: ignore[arg-type]
        seeds,
        slot=net["slot"],
        context=bytes.fromhex(net.get("prev", "00" * 32)),
        accepted=accepted,
    )
    assert found["y"] == {str(i): model.as_octets(expected.y[i]).hex() for i in sorted(accepted)}
    assert found["r"] == {str(i): model.as_octets(expected.r[i]).hex() for i in sorted(accepted)}
    assert tuple(found["total"]) == expected.total
    assert computed([net, net]) == [found, found]
    assert computed({"net": [net]}) == {"net": [found]}


def test_a_hash_for_the_whole_file_serves_nets_that_have_none() -> None:
    net = bare(form())["net"][0]
    assert (
        computed({"prev": "07" * 32, "net": [net]})["net"][0]["y"] == computed(net | {"prev": "07" * 32})["y"]
    )
    assert computed(net)["y"] != computed(net | {"prev": "07" * 32})["y"]


def test_members_need_not_be_numbered_without_gaps() -> None:
    """Numbers name the ends of edges: with gaps between them, in the same order, all else stays."""
    net = bare(form())["net"][1]
    far = {str(i): str(7 * i if i < 12 else (1 << 32) - 1) for i in range(1, 13)}
    moved = net | {
        "readings": {far[i]: reading for i, reading in net["readings"].items()},
        "seeds": {far[i]: seed for i, seed in net["seeds"].items()},
        "drop": [int(far[str(i)]) for i in net["drop"]],
        "edge_epoch_keys": {
            "-".join(far[end] for end in name.split("-")): key for name, key in net["edge_epoch_keys"].items()
        },
    }
    found, whole = computed(moved), computed(net)
    assert found["y"] == {far[i]: y for i, y in whole["y"].items()}
    assert found["r"] == {far[i]: r for i, r in whole["r"].items()}
    assert found["total"] == whole["total"]
    with pytest.raises(BadNets, match="13 is none of the net's 12 members"):  # gaps, but one too few
        computed(moved | {"readings": net["readings"] | {"13": [1, 0, 1]}, "drop": net["drop"]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, r"n: a whole number from 1 .* not 0"),
        ({"n": True}, "n: a whole number"),
        ({"slot": 1 << 32}, "slot: a whole number"),
        ({"slot": None}, "slot: .* not nothing"),
        ({"drop": [9]}, r"drop\[0\]: 9 is none of the net's 8 members"),
        ({"drop": ["1"]}, r"drop\[0\]: a whole number"),
        ({"drop": 3}, "drop: a list"),
        ({"prev": "00"}, "prev: 32 bytes in hex"),
        ({"net": "zz" * 8}, "net: 8 bytes in hex"),
        ({"readings": {}}, "member 1 is not in drop and has none"),
        ({"readings": {str(i): [1] * i for i in range(1, 9)}}, "one number was expected"),
        ({"readings": {"01": [1]}}, "'01' is no member number"),
        ({"readings": {"1": [-1]}}, r"readings.1\[0\]: a whole number"),
        ({"readings": {"1": [1 << 64]}}, r"readings.1\[0\]: a whole number"),
        ({"readings": {"1": [1.5]}}, r"not a float"),
        ({"seeds": {"1": "00" * 15}}, "seeds.1: 16 bytes in hex was expected, not 30 digits"),
        ({"edge_epoch_keys": {"1-9": "00" * 16}}, "'1-9': 9 is none of the net's 8 members"),
        ({"edge_epoch_keys": {"1-99999999999": "00" * 16}}, "a whole number from 0"),
        ({"edge_epoch_keys": {"1-1": "00" * 16}}, "joins a member to itself"),
        ({"edge_epoch_keys": {"1-2": "00" * 16, "2-1": "00" * 16}}, "stands twice"),
        ({"edge_epoch_keys": {"1": "00" * 16}}, "'1' is no edge"),
        ({"edge_epoch_keys": None}, "an object was expected, not nothing"),
    ],
)
def test_bad_nets_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadNets, match=message):
        computed(bare(form())["net"][0] | change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1, column 2: not JSON"),
        ('{"net": [], "net": []}', "'net' stands twice"),
        ("[" * 100_000, "nested too deeply"),
        ("7", "an object or a list of nets was expected"),
        ("{}", "has none of kdf, prf, h_graph, net"),
        ('{"scheme": "other/1", "net": []}', "scheme is 'other/1'"),
        ('{"net": {}}', "net: a list was expected"),
        ('{"net": [5]}', r"net\[0\]: an object was expected, not 5"),
        ('{"h_graph": [{"n": 4, "k": 3, "beacon": ""}]}', "an even number was expected, not 3"),
        ('{"h_graph": [{"n": 100000, "k": 200000, "beacon": ""}]}', "more than 10000000 edges"),
        (
            json.dumps(
                {"prf": [{"key": "00" * 16, "ctx": "00" * 32, "slot": 1, "purpose": 0, "n": 2_000_000}]}
            ),
            "n: a",
        ),
        ('{"kdf": [{"key": "00", "label": "ä", "n": 1}]}', "an ASCII string"),
        ('{"prf": [{"key": "00"}]}', "key: 16 bytes in hex"),
        ('{"net": ' + "9" * 5000 + "}", "a number of thousands of digits"),
        ('{"kdf": [{"key": "00", "label": "' + "a" * 65536 + '", "n": 1}]}', "at most 65535 characters"),
        ('{"n": 1, "slot": 1, "net": "0000000000000000", "seeds": {}}', "the net.readings: an object"),
    ],
)
def test_bad_files_are_named_with_exit_code_2(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadNets, match=message):
        computed(load(text))
    file = tmp_path / "bad.json"
    file.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(app, ["compute", str(file)])
    assert done.exit_code == 2
    assert str(file) in done.stderr
    assert "hint:" in done.stderr
    assert done.stdout == ""


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, message in (("none", "No such file"), ("binary", "not UTF-8")):
        done = CliRunner().invoke(app, ["compute", str(tmp_path / name)])
        assert done.exit_code == 2
        assert message in done.stderr
