"""The conformance suite as a table: name, commands, expected status word and data.

Each case starts on a powered, pre-personalised card without a session. `protected` cases run inside a PACE
session. Cases leave the PIN and the life cycle as they found them. Expectations come from reference/
TR-03110-3 and the project profile (`hsm.profile`), not from a card's code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from hsm.api import Curve
from hsm.profile import DOMAIN_IDS
from hsm.suites import AES128, AES192, AES256, SUITES, Suite

Objects = list[tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Send:
    """A command: header, body (hex, `{name}` inserts what was captured), Le; what must come back.

    `data` None accepts any data; "" accepts none; see `runner.match_data` for captures.
    """

    header: str
    body: str = ""
    le: int | None = None
    sw: str | tuple[str, ...] = "9000"
    data: str | None = ""


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes as they are, in the clear even inside a session."""

    apdu: str
    sw: str | tuple[str, ...] = "9000"
    data: str | None = ""


@dataclass(frozen=True, slots=True)
class Tamper:
    """A protected command whose data objects were changed; answered in the clear, the session is dead."""

    header: str
    le: int | None
    change: Callable[[Objects], Objects]
    sw: str | tuple[str, ...]
    data: str | None = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A judgement over captured values; raises if it is not satisfied."""

    check: Callable[[dict[str, bytes]], None]


Step = Send | Raw | Tamper


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the suite."""

    name: str
    group: str
    steps: tuple[Send | Raw | Tamper | Check, ...]
    protected: bool = False
    suite: Suite = AES128
    pace_curve: Curve = Curve.BRAINPOOL_P256
    curves: frozenset[Curve] = field(default=frozenset())
    raw_chaining: bool = False  # the case handles 61xx itself


CORE_GROUPS = frozenset(
    {"select", "files", "random", "pace", "messaging", "keys", "sign", "agree", "ephemeral", "before"}
)
"""What every module of this profile must serve; the other groups are `format` and the whole command set."""

MSE_PACE = "800a04007f00070202040202 830103 84010d"
_HASH = {32: hashes.SHA256(), 48: hashes.SHA384(), 64: hashes.SHA512()}
PYCA: dict[Curve, ec.EllipticCurve] = {
    Curve.P256: ec.SECP256R1(),
    Curve.P384: ec.SECP384R1(),
    Curve.BRAINPOOL_P256: ec.BrainpoolP256R1(),
    Curve.BRAINPOOL_P384: ec.BrainpoolP384R1(),
    Curve.BRAINPOOL_P512: ec.BrainpoolP512R1(),
}
# A fixed peer: private key 12345 on each curve.
_PEER = {curve: ec.derive_private_key(12345, pyca) for curve, pyca in PYCA.items()}


def uncompressed(key: ec.EllipticCurvePublicKey) -> bytes:
    """04 | x | y."""
    numbers, size = key.public_numbers(), (key.key_size + 7) // 8
    return b"\x04" + numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big")


def length(octets: int) -> str:
    """DER length octets as hex."""
    return f"{octets:02x}" if octets < 0x80 else f"81{octets:02x}"


def der(tag: str, inner: str, size: int) -> str:
    """A data object around a template whose value is `size` octets long."""
    return tag + length(size) + inner


def _agreement(point: str, size: int) -> str:
    inner = der("85", point, size)
    return der("7c", inner, size + 1 + len(length(size)) // 2)


def _secret(size: int) -> str:
    return der("7c", der("86", f"{{z:{size}}}", size), size + 2)


def _public(curve: Curve, name: str = "point") -> str:
    size = 2 * curve.field_bytes + 1
    inner = f"8001{DOMAIN_IDS[curve]:02x}" + der("86", f"{{{name}:{size}}}", size)
    return der("7f49", inner, 3 + 1 + len(length(size)) // 2 + size)


def generate(reference: int, curve: Curve, *, replace: bool = True, name: str = "point") -> Send:
    """GENERATE ASYMMETRIC KEY PAIR, capturing the point."""
    header = "0046c200" if replace else "00468200"
    return Send(header, f"b6068401{reference:02x}8001{DOMAIN_IDS[curve]:02x}", 256, data=_public(curve, name))


def _verify(curve: Curve, digest: bytes) -> Check:
    def check(values: dict[str, bytes]) -> None:
        public = ec.EllipticCurvePublicKey.from_encoded_point(PYCA[curve], values["point"])
        r, s = values["signature"][: curve.field_bytes], values["signature"][curve.field_bytes :]
        encoded = utils.encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
        public.verify(encoded, digest, ec.ECDSA(utils.Prehashed(_HASH[curve.field_bytes])))

    return Check(check)


def _agreed(curve: Curve) -> Check:
    def check(values: dict[str, bytes]) -> None:
        public = ec.EllipticCurvePublicKey.from_encoded_point(PYCA[curve], values["point"])
        if _PEER[curve].exchange(ec.ECDH(), public) != values["z"]:
            raise ValueError("another shared secret than pyca's")

    return Check(check)


def _differ(left: str, right: str) -> Check:
    def check(values: dict[str, bytes]) -> None:
        if values[left] == values[right]:
            raise ValueError(f"{left} and {right} are the same")

    return Check(check)


def _curve_cases() -> Iterator[Case]:
    for curve in Curve:
        digest = hashlib.new(curve.hash_name, b"conformance").digest()
        size = curve.field_bytes
        peer = uncompressed(_PEER[curve].public_key()).hex()
        only = frozenset({curve})
        sign = Send("002a9e9a", digest.hex(), 256, data=f"{{signature:{2 * size}}}")
        yield Case(
            f"generate, read and sign on {curve.value}",
            "sign",
            (
                generate(0x02, curve),
                Send("00468100", "b603840102", 256, data=_public(curve)),
                Send("002241b6", "840102"),
                sign,
                _verify(curve, digest),
                Send("002a9e9a", "00" * (size - 1), 256, "6a80"),
                Send("002a9e9a", "00" * (size + 1), 256, "6a80"),
            ),
            protected=True,
            curves=only,
        )
        whole = 2 * size + 1
        agree = Send("00860000", _agreement(peer, whole), 256, data=_secret(size))
        off = bytearray.fromhex(peer)
        off[-1] ^= 1
        bad = [
            ("off the curve", bytes(off)),
            ("zero coordinates", b"\x04" + bytes(2 * size)),
            ("at infinity", b"\x00"),
            ("x beyond the field", b"\x04" + b"\xff" * size + bytes.fromhex(peer)[-size:]),
            ("one byte short", bytes.fromhex(peer)[:-1]),
            ("one byte long", bytes.fromhex(peer) + b"\x00"),
            ("compressed", b"\x02" + bytes.fromhex(peer)[1 : size + 1]),
            ("hybrid", b"\x06" + bytes.fromhex(peer)[1:]),
        ]
        yield Case(
            f"agree with a static key on {curve.value}, again and again",
            "agree",
            (generate(0x03, curve), Send("002241a6", "840103"), agree, _agreed(curve), agree),
            protected=True,
            curves=only,
        )
        for what, point in bad:
            yield Case(
                f"agree with a point {what} on {curve.value}",
                "agree",
                (
                    generate(0x03, curve),
                    Send("002241a6", "840103"),
                    Send("00860000", _agreement(point.hex(), len(point)), 256, "6a80"),
                ),
                protected=True,
                curves=only,
            )
        yield Case(
            f"agree with one's own point on {curve.value}",
            "agree",
            (
                generate(0x03, curve),
                Send("002241a6", "840103"),
                Send("00860000", _agreement("{point}", whole), 256, "6a80"),
            ),
            protected=True,
            curves=only,
        )
        yield Case(
            f"ephemeral key on {curve.value}: one agreement",
            "ephemeral",
            (
                generate(0x60, curve, replace=False),
                Send("002241a6", "840160"),
                agree,
                _agreed(curve),
                Send("00860000", _agreement(peer, whole), 256, ("6985", "6a88")),
                Send("002241a6", "840160", sw="6a88"),
            ),
            protected=True,
            curves=only,
        )


def _before_pace() -> Iterator[Case]:
    rows = [
        ("GET CHALLENGE", "0084000008", "6982"),
        ("UPDATE BINARY", "00d6000001aa", "6982"),
        ("MSE to sign", "002241b603840102", "6982"),
        ("MSE to agree", "002241a603840103", "6982"),
        ("sign", "002a9e9a20" + "00" * 32 + "00", "6982"),
        ("generate", "0046820008b60684010180010d00", "6982"),
        ("read a public key", "0046810005b60384010100", "6982"),
        ("delete a key", "00e4000003840101", "6982"),
        ("GENERAL AUTHENTICATE without MSE", "10860000027c0000", "6982"),
        ("an unknown instruction", "00ca000000", "6d00"),
        ("a protected command without a session", "0cb000000d9701088e08000000000000000000", "6988"),
    ]
    for what, command, sw in rows:
        yield Case(f"before PACE: {what}", "before", (Raw(command, sw),))


def _format() -> Iterator[Case]:
    rows = [
        ("a foreign class", "80a4040c", "6e00"),
        ("a logical channel", "01a4040c", "6881"),
        ("SM of another kind, 04", "04a4040c", "6882"),
        ("SM of another kind, 08", "08a4040c", "6882"),
        ("chaining where there is none", "10a4040c", "6884"),
        ("shorter than a header", "00a4", "6700"),
        ("Lc longer than the data", "00a4040c05aa", "6700"),
        ("GET RESPONSE without a rest", "00c0000000", "6d00"),
    ]
    for what, command, sw in rows:
        yield Case(f"format: {what}", "format", (Raw(command, sw),))


def _selection() -> Iterator[Case]:
    rows = [
        ("the application", "00a4040c08f0534d475748534d", "9000"),
        ("the master file", "00a4000c023f00", "9000"),
        ("another application", "00a4040c07a0000002471001", "6a82"),
        ("a file that is not there", "00a4020c02ffff", "6a82"),
        ("CardAccess", "00a4020c02011c", "9000"),
        ("by path", "00a4080c023f00", "6a86"),
    ]
    for what, command, sw in rows:
        yield Case(f"SELECT {what}", "select", (Raw("00a4040c08f0534d475748534d"), Raw(command, sw)))


def _files() -> Iterator[Case]:
    access = "31143012060a04007f0007020204020202010202010d"
    yield Case(
        "read CardAccess before PACE",
        "files",
        (
            Raw("00a4040c08f0534d475748534d"),
            Raw("00a4020c02011c"),
            Raw("00b0000000", "6282", access),
            Raw("00b0000002", "9000", "3114"),
            Raw("00b0001600", "6b00"),
            Raw("00b09c0002", "9000", "3114"),
        ),
    )
    yield Case(
        "READ BINARY without a file", "files", (Raw("00a4040c08f0534d475748534d"), Raw("00b0000010", "6986"))
    )
    yield Case("READ BINARY of an unknown short identifier", "files", (Raw("00b09f0010", "6a82"),))
    yield Case(
        "write a file and read it back",
        "files",
        (
            Send("00a4020c", "0101"),
            Send("00d60000", "0003aabbcc"),
            Send("00b00000", le=5, data="0003aabbcc"),
            Send("00d60003", "dd"),
            Send("00b00002", le=3, data="aaddcc"),
            Send("00d60000", "0000"),
            Send("00d60fff", "aabb", sw="6a84"),
            Send("00d61000", "aa", sw="6b00"),
            Send("00d60000", sw="6700"),
        ),
        protected=True,
    )
    yield Case("CardAccess is never written", "files", (Send("00d69c00", "aa", sw="6982"),), protected=True)


def _random() -> Iterator[Case]:
    for count in (1, 8, 32, 128, 256):
        yield Case(
            f"{count} random bytes",
            "random",
            (Send("00840000", le=count, data=f"{{random:{count}}}"),),
            protected=True,
        )
    yield Case(
        "random bytes differ",
        "random",
        (
            Send("00840000", le=16, data="{one:16}"),
            Send("00840000", le=16, data="{two:16}"),
            _differ("one", "two"),
        ),
        protected=True,
    )
    for what, send in (
        ("without Le", Send("00840000", sw="6700")),
        ("257 bytes", Send("00840000", le=257, sw="6700")),
        ("with P2", Send("00840001", le=8, sw="6a86")),
    ):
        yield Case(f"GET CHALLENGE {what}", "random", (send,), protected=True)


def _pace() -> Iterator[Case]:
    rows = [
        ("with domain parameters", MSE_PACE, "9000"),
        ("without domain parameters", "800a04007f00070202040202 830103", "9000"),
        ("unknown algorithm", "800a04007f00070202040209 830103 84010d", "6a80"),
        ("unknown password", "800a04007f00070202040202 830109 84010d", "6a88"),
        ("unknown domain parameters", "800a04007f00070202040202 830103 840163", "6a88"),
        ("no password", "800a04007f00070202040202", "6a80"),
        ("no algorithm", "830103", "6a80"),
        ("password twice", "800a04007f00070202040202 830103 830103 84010d", "6a80"),
        ("long password reference", "800a04007f00070202040202 83020303 84010d", "6a80"),
        ("cut object", "800a04007f00070202040202 830103 9f", "6a80"),
    ]
    select = Raw("00a4040c08f0534d475748534d")
    for what, body, sw in rows:
        yield Case(f"MSE:Set AT {what}", "pace", (select, Send("0022c1a4", body, sw=sw)))
    start = (select, Send("0022c1a4", MSE_PACE))
    nonce = Send("10860000", "7c00", 256, data="7c128010{nonce:16}")
    point = uncompressed(_PEER[Curve.BRAINPOOL_P256].public_key())
    off = point[:-1] + bytes((point[-1] ^ 1,))
    for what, given in (
        ("off the curve", off),
        ("zero coordinates", b"\x04" + bytes(64)),
        ("at infinity", b"\x00"),
        ("of another curve's length", b"\x04" + bytes(96)),
        ("compressed", b"\x02" + point[1:33]),
    ):
        body = der("7c", der("81", given.hex(), len(given)), len(given) + 2)
        yield Case(
            f"PACE mapping point {what}",
            "pace",
            (*start, nonce, Send("10860000", body, 256, "6a80"), Send("10860000", body, 256, "6982")),
        )
    mapping = Send("10860000", f"7c438141{point.hex()}", 256, data="7c438241{map:65}")
    agreement = Send("10860000", f"7c438341{point.hex()}", 256, data="7c438441{agree:65}")
    yield Case(
        "PACE with a wrong token",
        "pace",
        (
            *start,
            nonce,
            mapping,
            agreement,
            Send("00860000", "7c0a85080000000000000000", 256, ("6300", "63c2")),
        ),
    )
    yield Case(
        "PACE steps out of order", "pace", (*start, Send("10860000", f"7c438141{point.hex()}", 256, "6a80"))
    )
    yield Case("PACE first step without chaining", "pace", (*start, Send("00860000", "7c00", 256, "6884")))
    for suite in SUITES:
        for curve in Curve:
            yield Case(
                f"PACE with AES-{8 * suite.key_bytes} on {curve.value}",
                "pace",
                (Send("00840000", le=8, data="{random:8}"),),
                protected=True,
                suite=suite,
                pace_curve=curve,
                curves=frozenset({curve}),
            )
    yield Case(
        "no PACE inside a session",
        "pace",
        (Send("0022c1a4", MSE_PACE, sw="6985"), Send("00860000", "7c00", 256, "6985")),
        protected=True,
    )


def _drop(tag: int) -> Callable[[Objects], Objects]:
    return lambda objects: [entry for entry in objects if entry[0] != tag]


def _flip(tag: int) -> Callable[[Objects], Objects]:
    return lambda objects: [(t, bytes((v[0] ^ 1,)) + v[1:] if t == tag else v) for t, v in objects]


def _messaging() -> Iterator[Case]:
    rows: list[tuple[str, Callable[[Objects], Objects], str]] = [
        ("without a MAC", _drop(0x8E), "6987"),
        ("without anything", lambda _: [], "6987"),
        ("with a wrong MAC", _flip(0x8E), "6988"),
        ("with a changed Le", _flip(0x97), "6988"),
        ("with Le after the MAC", lambda objects: objects[::-1], "6988"),
        ("with Le twice", lambda objects: [objects[0], *objects], "6988"),
        ("with the MAC twice", lambda objects: [*objects, objects[-1]], "6988"),
        ("with a foreign object", lambda objects: [(0x99, b"\x90\x00"), *objects], "6988"),
        ("with a short MAC", lambda objects: [objects[0], (0x8E, objects[1][1][:4])], "6988"),
    ]
    for what, change, sw in rows:
        yield Case(
            f"a protected command {what} ends the session",
            "messaging",
            (Tamper("00840000", 8, change, sw), Raw("0084000008", "6982")),
            protected=True,
        )
    yield Case(
        "a protected refusal keeps the session",
        "messaging",
        (Send("00ca0000", le=256, sw="6d00"), Send("00840000", le=8, data="{random:8}")),
        protected=True,
    )
    yield Case(
        "a plain command ends the session",
        "messaging",
        (Raw("0084000008", "6982"), Raw("0cb000000d9701088e08000000000000000000", "6988")),
        protected=True,
    )
    for suite in (AES192, AES256):
        yield Case(
            f"secure messaging with AES-{8 * suite.key_bytes}",
            "messaging",
            (
                Send("00a4020c", "0101"),
                Send("00b00000", le=2, data="{_:2}"),
                Send("00ca0000", le=256, sw="6d00"),
            ),
            protected=True,
            suite=suite,
        )


def _keys() -> Iterator[Case]:
    rows = [
        ("P1 unknown", Send("00468000", "b60684010180010d", 256, "6a86")),
        ("P2 set", Send("00468201", "b60684010180010d", 256, "6a86")),
        ("without Le", Send("00468200", "b60684010180010d", None, "6700")),
        ("without a curve", Send("00468200", "b603840101", 256, "6a80")),
        ("unknown curve", Send("00468200", "b606840101800163", 256, "6a80")),
        ("unknown reference", Send("00468200", "b6068401ff80010d", 256, "6a88")),
        ("wrong template", Send("00468200", "a60684010180010d", 256, "6a80")),
        ("cut template", Send("00468200", "b6", 256, "6a80")),
        ("read an ephemeral key that is not there", Send("00468100", "b603840161", 256, "6a88")),
    ]
    for what, send in rows:
        yield Case(f"GENERATE: {what}", "keys", (send,), protected=True)
    curve = Curve.BRAINPOOL_P256
    yield Case(
        "a new key is not made over an old one, unless asked for",
        "keys",
        (
            generate(0x01, curve, name="one"),
            Send("00468200", "b60684010180010d", 256, "6a89"),
            generate(0x01, curve, name="two"),
            _differ("one", "two"),
        ),
        protected=True,
    )
    yield Case(
        "delete a key",
        "keys",
        (
            generate(0x01, curve),
            Send("00e40000", "840101"),
            Send("00468100", "b603840101", 256, "6a88"),
            Send("002241b6", "840101", sw="6a88"),
            Send("00e40000", "840101", sw="6a88"),
            Send("00e40001", "840101", sw="6a86"),
            Send("00e40000", "8401", sw="6a80"),
        ),
        protected=True,
    )
    yield Case(
        "sign without a chosen key", "sign", (Send("002a9e9a", "00" * 32, 256, "6985"),), protected=True
    )
    yield Case("PSO of an unknown kind", "sign", (Send("002a9e9b", "00" * 32, 256, "6a86"),), protected=True)
    yield Case(
        "agree without a chosen key", "agree", (Send("00860000", "7c028500", 256, "6985"),), protected=True
    )
    yield Case(
        "MSE with a bad reference",
        "keys",
        (
            Send("002241b6", "84020101", sw="6a80"),
            Send("002241b6", "830101", sw="6a80"),
            Send("002241a6", "8401ff", sw="6a88"),
        ),
        protected=True,
    )
    yield Case(
        "an ephemeral key neither signs nor is overwritten",
        "ephemeral",
        (
            generate(0x60, curve, replace=False),
            Send("00468200", "b60684016080010d", 256, "6a89"),
            Send("002241b6", "840160", sw="6a88"),
            Send("00e40000", "840160"),
            Send("00e40000", "840160", sw="6a88"),
        ),
        protected=True,
    )
    yield Case(
        "four ephemeral keys at once",
        "ephemeral",
        tuple(
            generate(reference, curve, replace=False, name=f"p{reference}") for reference in range(0x60, 0x64)
        ),
        protected=True,
    )


def _long() -> Iterator[Case]:
    """Chaining, extended length, GET RESPONSE, ENVELOPE, odd instructions."""
    access = "31143012060a04007f0007020204020202010202010d"
    yield Case(
        "READ BINARY with an odd instruction",
        "long",
        (
            Send("00a4020c", "011c"),
            Send("00b10000", "54020002", 256, "6282", "5314" + access[4:]),
            Send("00b1011c", "540100", 4, data="53023114"),
            Send("00b10000", "54020100", 256, "6b00"),
            Send("00b10000", "5500", 256, "6a80"),
        ),
        protected=True,
    )
    yield Case(
        "READ BINARY with an odd instruction, in the clear",
        "long",
        (Raw("00b1011c0354010000", "6282", "5316" + access),),
    )
    yield Case(
        "UPDATE BINARY in a chain",
        "long",
        (
            Send("00a4020c", "0101"),
            Send("10d60000", "0004aa"),
            Send("10d60000", "bb"),
            Send("00d60000", "ccdd"),
            Send("00b00000", le=6, data="0004aabbccdd"),
            Send("10d60000", "00"),
            Send("00840000", le=8, sw="6883"),
            Send("00840000", le=8, data="{random:8}"),
            Send("10d60000", "00"),
            Send("00d60001", "00", sw="6883"),
            Send("10840000", le=8, sw="6884"),
            Send("00d60000", "0000"),
        ),
        protected=True,
    )
    big = "5a" * 1000
    yield Case(
        "extended length both ways",
        "long",
        (
            Send("00a4020c", "0101"),
            Send("00d60000", "03e8" + big),
            Send("00b00000", le=1002, data="03e8" + big),
            Send("00d60000", "0000"),
        ),
        protected=True,
    )
    yield Case(
        "GET RESPONSE gives what did not fit",
        "long",
        (
            Raw("00a4020c02011c"),
            Raw("00c200000500b000001002", "610e", access[:4]),
            Raw("00c0000004", "610a", access[4:12]),
            Raw("00c0000000", "9000", access[12:32]),
            Raw("00c0000000", "6d00"),
        ),
        raw_chaining=True,
    )
    yield Case(
        "ENVELOPE carries a command",
        "long",
        (
            Raw("00c200000700a4020c02011c00"),
            Raw("10c200000300b000"),
            Raw("00c20000020002 00".replace(" ", ""), "9000", "3114"),
            Raw("00c200000500c200000000", "6a80"),
            Raw("00c200000200a400", "6700"),
            Raw("00c200010100", "6a86"),
        ),
    )


def _whole() -> Iterator[Case]:
    """Commands that leave the card as it was and that no core module need serve."""
    curve = Curve.BRAINPOOL_P256
    digest = hashlib.sha256(b"conformance").digest().hex()
    yield Case(
        "verify one's own signature",
        "whole",
        (
            generate(0x02, curve),
            Send("002241b6", "840102"),
            Send("002a9e9a", digest, 256, data="{signature:64}"),
            Send("002a00a8", f"9a20{digest}9e40{{signature}}7f494680010d8641{{point}}"),
            Send("002a00a8", f"9a20{'00' * 32}9e40{{signature}}7f494680010d8641{{point}}", sw="6300"),
            Send("002a00a8", f"9e40{{signature}}9a20{digest}7f494680010d8641{{point}}", sw="6a80"),
            Send("002a00a8", f"9a20{digest}9e40{{signature}}", sw="6985"),
        ),
        protected=True,
    )
    yield Case(
        "the counter goes up by one",
        "whole",
        (
            Send("00320001", le=8, data="{one:8}"),
            Send("00320001", le=8, data="{two:8}"),
            _differ("one", "two"),
            Send("00b08500", le=8, data="{two}"),
            Send("00320002", le=8, sw="6a86"),
        ),
        protected=True,
    )
    yield Case(
        "a pending key takes over",
        "whole",
        (
            generate(0x82, curve),
            Send("00442002"),
            Send("00468100", "b603840102", 256, data=_public(curve)),
            Send("00442002", sw="6a88"),
        ),
        protected=True,
    )
    yield Case(
        "files are made and deleted",
        "whole",
        (
            Send("00e00000", "620883020201 80020010".replace(" ", "")),
            Send("00e00000", "62088302020180020010", sw="6a8a"),
            Send("00d60000", "aa"),
            Send("00b00000", le=16, data="aa" + "00" * 15),
            Send("00e40000", "620483020201"),
            Send("00a4020c", "0201", sw="6a82"),
            Send("00e40000", "620483020101", sw="6982"),
        ),
        protected=True,
    )
    yield Case(
        "a service key is made for its receiver and leaves once",
        "whole",
        (
            generate(0x02, curve),
            Send("00468200", "b64f84015080010d7f494680010d8641{point}", 256, data=_public(curve, "service")),
            Send("002241b8", "840102", sw="6a88"),
            Send("002241b8", "840150"),
            Send("002a8680", le=256, data="8641{_:65}8728{_:40}"),
            Send("002a8680", le=256, sw="6985"),
            Send("002241b8", "840150", sw="6a88"),
            Send("00468200", "b60684015080010d", 256, "6a80"),
        ),
        protected=True,
    )
    yield Case(
        "nothing of the administrator's without the administrator",
        "whole",
        (
            Send("00820000", "00" * 64, sw="6985"),
            Send("002281a4", "830132", sw="6a88"),
            Send("00240103", "31" * 10, sw="6985"),
            Send("002c0303", sw="6985"),
            Send("00fe0000", sw="6985"),
            Send("00440005", sw="6985"),
        ),
        protected=True,
    )


CASES: tuple[Case, ...] = (
    *_selection(),
    *_before_pace(),
    *_format(),
    *_files(),
    *_random(),
    *_pace(),
    *_messaging(),
    *_keys(),
    *_curve_cases(),
    *_long(),
    *_whole(),
)
"""The suite. Names are unique."""
