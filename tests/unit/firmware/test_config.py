"""Configuration: every fault at once, each with file, line, key and what was expected."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import tomllib
from enum import Enum
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from firmware import config, document
from firmware.config import GatewayConfig, load, load_meters, read_secret
from firmware.document import read_json, read_toml, read_toml_text
from firmware.errors import ConfigurationRefused
from firmware.toml_lines import key_lines
from hsm.transport import Pcsc, Tcp

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "tools" / "examples"
MINIMAL = """
[gateway]
id = "ESGW0100000001"
state = "state"
[module]
state = "module"
pin_file = "pin"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pin").write_text("0123456789\n")
    (tmp_path / "pin").chmod(0o600)
    for name in ("gateway.toml", "meters.toml"):
        shutil.copy(EXAMPLES / name, tmp_path / name)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "pki").mkdir()
    for name in ("root", "sub-ca", "tls", "sig", "enc", "gwa-tls", "gwa-sig", "meter"):
        (tmp_path / "pki" / f"{name}.pem").touch()
    return tmp_path


def written(folder, text):
    path = folder / "gateway.toml"
    path.write_text(text)
    return path


def faults_of(path, reader=load):
    with pytest.raises(ConfigurationRefused) as refused:
        reader(path)
    return [(fault.line, fault.key, fault.expected) for fault in refused.value.faults]


def test_the_examples_load(folder):
    loaded = load(folder / "gateway.toml")
    assert loaded.gateway.id == "ESGW0100000001"
    assert loaded.gateway.state == folder / "state"
    assert loaded.module.pin_file == folder / "pin"
    assert loaded.lmn.stick[0].port == str(folder / "stick0")
    assert loaded.wan is None
    assert loaded.log.level == "info"
    assert not loaded.dcnet.insecure_small_nets
    [meter] = load_meters(loaded.lmn.meters)
    assert meter.id == "electricity"
    assert meter.key_hex not in repr(meter)


def test_the_examples_load_with_everything_switched_on(folder):
    text = re.sub(r"(?m)^#(?=[a-z\[])", "", (EXAMPLES / "gateway.toml").read_text())
    loaded = load(written(folder, text))
    assert loaded.wan.root == folder / "pki" / "root.pem"
    assert loaded.wan.gwa.poll_s == 60
    assert (loaded.wan.gwa.host, loaded.wan.gwa.port) == ("127.0.0.1", 8443)
    known = {name for name, _ in _keys(tomllib.loads(text))}
    assert known == {name for name, _ in _keys(msgspec.to_builtins(loaded, enc_hook=str))}, (
        "an example shows every key"
    )


def _keys(table, prefix=""):
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
            yield from _keys(value[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def test_a_minimal_file_has_defaults(folder):
    loaded = load(written(folder, MINIMAL))
    assert (loaded.lmn, loaded.wan, loaded.module.transport) == (None, None, "emulator")


def test_absolute_paths_and_urls_stay(folder):
    text = MINIMAL + '[[lmn.stick]]\nport = "socket://127.0.0.1:4000"\n[[lmn.stick]]\nport = "/dev/ttyUSB0"\n'
    ports = [stick.port for stick in load(written(folder, text)).lmn.stick]
    assert ports == ["socket://127.0.0.1:4000", "/dev/ttyUSB0"]


def test_all_faults_are_named_at_once(folder):
    path = written(
        folder,
        """[gateway]
id = "GW1"
stat = "state"

[modul]
[module]
transport = "emulater"
state = 3
pin_file = "no-such-pin"
[[lmn.stick]]
kind = "im871b"
port = ""
[[lmn.stick]]
[wan]
root = "pki/root.pem"
sub_ca = "pki"
gwa.host = ""
gwa.port = 99999
gwa.tls_certificate = "pki/none.pem"
[dcnet]
insecure_small_nets = "yes"
[log]
level = "Warning"
""",
    )
    found = {(line, key): expected for line, key, expected in faults_of(path)}
    assert {where: text for where, text in found.items() if where[0] is None} == {}
    expected = {
        (2, "gateway.id"): "DIN 43849",
        (3, "gateway.stat"): "did you mean 'state'",
        (1, "gateway.state"): "missing",
        (5, "modul"): "did you mean 'module'",
        (7, "module.transport"): '"emulator", "tcp:HOST:PORT"',
        (8, "module.state"): "a path",
        (9, "module.pin_file"): "existing file",
        (11, "lmn.stick[0].kind"): "one of 'im871a'",
        (12, "lmn.stick[0].port"): "a path",
        (13, "lmn.stick[1].port"): "missing",
        (16, "wan.sub_ca"): "a file",
        (14, "wan.tls"): "missing",
        (14, "wan.sig"): "missing",
        (14, "wan.enc"): "missing",
        (17, "wan.gwa.host"): "host name",
        (18, "wan.gwa.port"): "1 to 65535",
        (19, "wan.gwa.tls_certificate"): "existing file",
        (17, "wan.gwa.server_name"): "missing",
        (17, "wan.gwa.sig_certificate"): "missing",
        (21, "dcnet.insecure_small_nets"): "bool",
        (23, "log.level"): "did you mean 'warning'",
    }
    assert set(found) == set(expected)
    for where, text in expected.items():
        assert text in found[where], where
    assert faults_of(path) == sorted(faults_of(path), key=lambda fault: fault[0])


@pytest.mark.parametrize(
    ("text", "line", "key", "expected"),
    [
        ("[gateway\n", 1, "(syntax)", "valid TOML"),
        ("a = 1\na = 2\n", 2, "(syntax)", "valid TOML"),
        ("a = [" + "[" * 5000, None, "(syntax)", ""),
        ("a = " + "9" * 5000, None, "(syntax)", ""),
        ("", 1, "gateway", "missing"),
        ("gateway = 3", 1, "gateway", "a table, got int"),
        ("gateway = [1]", 1, "gateway", "a table, got an array"),
        (MINIMAL + '[lmn]\nstick = "x"', 9, "lmn.stick", "got `str`"),
        (MINIMAL + '[lmn]\nmeters = "pin"\nstick = 3', 10, "lmn.stick", "got `int`"),
        (MINIMAL.replace('"module"', '"state"'), 1, "(document)", "two folders"),
        (MINIMAL + '[[lmn.stick]]\nport = "a"\n[[lmn.stick]]\nport = "a"', 8, "lmn", "port of its own"),
        (MINIMAL.replace('"pin"', '"pi\\u0000n"'), 7, "module.pin_file", "file of mode 0600"),
        (MINIMAL.replace('"pin"', '"pki"'), 7, "module.pin_file", "a file"),
    ],
    ids=range(13),
)
def test_broken_files(folder, text, line, key, expected):
    found = faults_of(written(folder, text))
    assert any(fault[:2] == (line, key) and expected in fault[2] for fault in found), found


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("tcp:127.0.0.1:35963", Tcp("127.0.0.1", 35963)),
        ("tcp:[::1]:1", Tcp("::1", 1)),
        ("tcp-listen:localhost:9", Tcp("localhost", 9, listen=True)),
        ("pcsc:Virtual PCD 00 00", Pcsc("Virtual PCD 00 00")),
        ("pcsc:atr:3B80800101", Pcsc("atr:3B80800101")),
    ],
)
def test_a_module_that_is_no_emulator_needs_no_folder(folder, text, way):
    content = MINIMAL.replace('state = "module"', f'transport = "{text}"')
    assert load(written(folder, content)).module.way == way
    far = content.replace("127.0.0.1", "192.0.2.1")
    if far != content:
        assert any("insecure_remote" in fault[2] for fault in faults_of(written(folder, far)))
        far = far.replace("[module]", "[module]\ninsecure_remote = true")
        assert load(written(folder, far)).module.way.remote


@pytest.mark.parametrize(
    "text",
    [
        "",
        "usb",
        "tcp:",
        "tcp:1",
        "tcp:h:",
        "tcp:h:x",
        "tcp:h:65536",
        "pcsc:",
        "pcsc:[",
        "pcsc:atr:3",
        "emulator:x",
    ],
)
def test_a_module_nobody_can_reach_is_a_fault(folder, text):
    found = faults_of(written(folder, MINIMAL.replace("[module]", f'[module]\ntransport = "{text}"')))
    assert any(fault[1] == "module.transport" for fault in found), found


def test_an_emulator_needs_its_folder(folder):
    found = faults_of(written(folder, MINIMAL.replace('state = "module"', "")))
    assert any("module.state" in fault[2] for fault in found), found


@pytest.mark.parametrize("content", [b"\xff", b"a = 1\n\xff", b"#" * (document.MAX_BYTES + 1)])
def test_bytes_that_are_no_document(folder, content):
    (folder / "gateway.toml").write_bytes(content)
    assert faults_of(folder / "gateway.toml")


def test_a_missing_file_and_a_folder_are_faults(folder):
    assert "No such file" in faults_of(folder / "nothing.toml")[0][2]
    assert faults_of(folder)[0][1] == "(file)"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o660])
def test_a_secret_that_others_can_read_is_a_fault(folder, mode):
    (folder / "pin").chmod(mode)
    (folder / "meters.toml").chmod(mode)
    found = faults_of(folder / "gateway.toml")
    assert [key for _, key, _ in found] == ["module.pin_file", "lmn.meters"]
    assert all("mode 0600" in expected for _, _, expected in found)
    with pytest.raises(ConfigurationRefused, match="0600"):
        read_secret(folder / "pin")


def test_secrets_are_read_when_needed_and_never_shown(folder):
    assert read_secret(folder / "pin") == b"0123456789"
    (folder / "pin").chmod(0o400)  # as systemd hands out credentials
    assert read_secret(folder / "pin") == b"0123456789"
    (folder / "pin").unlink()
    with pytest.raises(ConfigurationRefused, match="existing"):
        read_secret(folder / "pin")
    (folder / "pin").touch(0o600)
    with pytest.raises(ConfigurationRefused, match="not empty"):
        read_secret(folder / "pin")


def test_faults_of_meters_name_their_file_and_no_key(folder):
    secret = "00112233445566778899aabbccddee"
    (folder / "meters.toml").write_text(f"""
[[meter]]
id = "a"
meter = "ELS-12345678-33-03"
key_hex = "{secret}"
consumer = "c"
[[meter]]
id = "b"
meter = "12345678"
mode = "lax"
""")
    with pytest.raises(ConfigurationRefused) as refused:
        load(folder / "gateway.toml")
    assert [(fault.line, fault.key) for fault in refused.value.faults] == [
        (5, "meter[0].key_hex"),
        (7, "meter[1].consumer"),
        (9, "meter[1].meter"),
        (10, "meter[1].mode"),
    ]
    assert all(fault.file.endswith("meters.toml") for fault in refused.value.faults)
    assert "one of 'strict', 'open'" in str(refused.value)
    assert secret not in str(refused.value)


def test_a_meter_named_twice_is_a_fault(folder):
    twice = (folder / "meters.toml").read_text() * 2
    (folder / "meters.toml").write_text(twice.replace("[[meter]]", '[["meter"]]'))
    found = faults_of(folder / "meters.toml", load_meters)
    assert [key for _, key, _ in found] == ["meter[1].id", "meter[1].meter"]


# --- the locator ---


class Colour(Enum):
    RED = "red"


class Inner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    low: int = 0
    high: int = 1

    def __post_init__(self):
        if self.low > self.high:
            raise ValueError("low is at most high")


class Outer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(max_length=3)] = ""
    colour: Colour | None = None
    one: Inner | None = None
    many: Annotated[tuple[Inner, ...], msgspec.Meta(max_length=2)] = ()
    named: dict[str, Inner] = {}
    pair: tuple[int, str] = (0, "")


def test_every_shape_is_walked(tmp_path):
    text = """
name = "long name"
colour = "rad"
pair = [1, 2]
many = [ {low = 1},
         # nothing
         {low = 5}, {lo = 2} ]
one = 3
[named."the one"]
low = 3
high = 2
[named.other]
high = "x"
"""
    with pytest.raises(ConfigurationRefused) as refused:
        read_toml_text(text, Outer, file="here", folder=tmp_path)
    assert [(fault.line, fault.key) for fault in refused.value.faults] == [
        (2, "name"),
        (3, "colour"),
        (4, "pair"),
        (7, "many[1]"),
        (7, "many[2].lo"),
        (8, "one"),
        (9, "named.the one"),
        (13, "named.other.high"),
    ]
    assert "here:7: many[1]: low is at most high" in str(refused.value)
    with pytest.raises(ConfigurationRefused, match="here:1: many: `array` of length <= 2"):
        read_toml_text("many = [{}, {}, {}]", Outer, file="here", folder=tmp_path)


def test_a_document_knows_where_its_parts_stand(tmp_path):
    (tmp_path / "a.toml").write_text("\n[one]\nlow = 1\n")
    found = read_toml(tmp_path / "a.toml", Outer)
    assert found.value == Outer(one=Inner(low=1))
    assert str(found.fault(("one", "low"), "2")).endswith("a.toml:3: one.low: 2")
    assert found.fault(("one", "high"), "2").line == 2
    assert found.fault(("many",), "2").line == 1


def test_json_goes_the_same_way():
    assert read_json(b'{"one": {"low": 1}}', Outer, file="order").value.one.low == 1
    for data, key in (
        (b'{"one": {"lo": 1}, "many": [{"high": "x"}]}', "one.lo"),
        (b"{", "(syntax)"),
        (b"\xff", "(syntax)"),
        (b"[" * 100_000, "(syntax)"),
        (b"[]", "(document)"),
        (b" " * (document.MAX_BYTES + 1), "(document)"),
    ):
        with pytest.raises(ConfigurationRefused) as refused:
            read_json(data, Outer, file="order")
        assert refused.value.faults[0].key == key
        assert refused.value.faults[0].line is None


VALUES = st.recursive(
    st.sampled_from(
        ["1", "-2.5e3", "true", "1979-05-27 07:32:00Z", "07:32:00", '"a # b"', '"\\" ] } ="', "''", "'\\'",
         '"""\n " \\""" x\n\n"""', "'''\n'' x\n'''", '""""quoted"""""', "''''''''", "0xff", "inf"]
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: "[ # c ]\n" + " ,\n".join(parts) + "\n]"),
        st.lists(inner, max_size=3).map(
            lambda parts: "{" + ", ".join(f'k{n}."x y" = {part}' for n, part in enumerate(parts)) + "}"
        ),
    ),
    max_leaves=6,
)  # fmt: skip


@given(
    values=st.lists(VALUES, min_size=1, max_size=5),
    heads=st.lists(
        st.sampled_from(["", "[t]", "[[a]]", '[ "t" . u ]', "[[a.b]]", "[a.c]", "[t.'v.w']", "# [no]"]),
        max_size=5,
    ),
)
@example(values=["1"], heads=["[[a]]", "[[a.b]]", "[[a]]", "[a.c]"])
@settings(max_examples=300, deadline=None)
def test_each_key_of_a_document_has_the_line_where_it_stands(values, heads):
    lines, expected = [], []
    for n, value in enumerate(values):
        lines.append(heads[n] if n < len(heads) else "")
        expected.append(len("\n".join(lines).split("\n")) + 1)
        lines.append(f"  key{n} = {value}  # key9 = 1")
    text = "\n".join(lines)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # e.g. a table defined twice: not our business
    found = key_lines(text)

    def places(part, path):
        if isinstance(part, dict):
            for key, inner in part.items():
                yield (*path, key)
                yield from places(inner, (*path, key))
        elif isinstance(part, list):
            for position, inner in enumerate(part):
                yield (*path, position)
                yield from places(inner, (*path, position))

    assert set(places(raw, ())) == set(found)
    for path, line in found.items():
        if isinstance(path[-1], str) and re.fullmatch(r"key\d", path[-1]):
            assert line == expected[int(path[-1][3:])], (path, text)


@given(st.text(alphabet="[]{}=\"'#.,\n\\ab1 ", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_value_or_a_named_error(text):
    with contextlib.suppress(ConfigurationRefused):  # any other error is one of ours
        read_toml_text(text, Outer, file="f", folder=Path())


def test_configuration_loads_nothing_heavy():
    code = (
        "import sys, firmware.config\n"
        "heavy = {'asyncio', 'cryptography', 'pydantic', 'sqlite3', 'ssl', 'aiohttp', 'difflib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Foreign(msgspec.Struct):
    a: complex


@pytest.mark.parametrize("value", ['"1"', "1"])
def test_a_model_of_ours_with_a_type_that_no_document_holds_is_no_fault_of_the_document(value):
    with pytest.raises(AssertionError, match="documents do not hold a complex"):
        read_toml_text(f"a = {value}", Foreign, file="f", folder=Path())


def test_the_checks_of_fields_exist():
    named = set(re.findall(r'"check": "(\w+)"', Path(config.__file__).read_text()))
    assert named == set(config.CHECKS)
    assert GatewayConfig.__struct_config__.frozen
