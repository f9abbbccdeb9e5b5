"""One telegram to a checked value: headers, security, records, in that order. Pure: no I/O, no clock.

The order of checks is the point of this module: length, meter, security mode against the meter profile,
authentication code, counter, decryption, and only then the application data.
Spec: BSI TR-03109-1 detail specifications, 10; BSI TR-03116-3, 7.3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from lmn.errors import (
    CounterRefused,
    DowngradeRefused,
    KeyRefused,
    LengthMismatch,
    MacRefused,
    SecurityUnsupported,
    UnknownMeter,
)
from lmn.mbus import records as record_codec
from lmn.mbus.address import to_meter_id
from lmn.mbus.compact import FormatCache
from lmn.mbus.records import Record
from lmn.mbus.security import link_ctr, mode5, mode7, mode10
from lmn.mbus.security.derivation import KEY_BYTES, wireless_keys
from lmn.mbus.transport import Application, Authentication, Layers, Transport, parse, parse_upper
from lmn.model import MeterId
from lmn.ports import MeterAccess, ReceptionMode


class Security(Enum):
    """What protected a telegram; the names of the command contract."""

    NONE = "none"
    MODE5 = "mode5"
    MODE7 = "mode7"
    MODE10 = "mode10"
    LINK_CTR = "ell-ctr"


_INTACT: Final = frozenset((Security.MODE7, Security.MODE10, Security.LINK_CTR))
"""What comes through these is what the meter sent, whole: a code or a checksum over it was right."""


@dataclass(frozen=True, slots=True)
class Telegram:
    """One telegram that passed every check of its meter's profile."""

    meter: MeterId
    access_no: int | None
    status: int | None
    """STS byte; None where the telegram has no such field."""
    security: Security
    counter: int | None
    """Message counter; None in modes that have none."""
    records: tuple[Record, ...]


def decode(
    telegram: bytes,
    access: MeterAccess | None = None,
    last_counter: int | None = None,
    formats: FormatCache | None = None,
) -> Telegram:
    """Check and decode a bare telegram (L field in front, no link CRCs).

    Args:
        telegram: as `lmn.wmbus.frame` gives it.
        access: what the meter profile says; None for a tool that looks at a meter without key, in `open`.
        last_counter: the last counter accepted from this meter under this key, None if there was none.
        formats: known formats of compact frames; learns from full frames. Without it they are refused.

    Raises:
        LmnError: some check failed; nothing of the telegram may be used. `error.code` says which.
    """
    return decode_layers(parse(telegram), access, last_counter, formats)


def decode_layers(
    layers: Layers,
    access: MeterAccess | None = None,
    last_counter: int | None = None,
    formats: FormatCache | None = None,
) -> Telegram:
    """As `decode`, for a telegram already taken apart (to find out which meter's profile to use).

    Raises:
        LmnError: as `decode`.
    """
    if access is None:
        access = MeterAccess(layers.meter, None, ReceptionMode.OPEN)
    if access.key is not None and len(access.key) != KEY_BYTES:
        raise KeyRefused(f"a meter key has {KEY_BYTES} bytes, not {len(access.key)}")
    link_security = Security.NONE
    authentication, transport = layers.authentication, layers.transport
    address = layers.address
    if layers.sealed is not None and layers.extended is not None:
        body, was_encrypted = _open_link(layers, access, last_counter)
        link_security = Security.LINK_CTR if was_encrypted else Security.NONE
        authentication, transport = parse_upper(body)
        address = transport.address or layers.link_address
    assert transport is not None  # either parsed at once or just now
    meter = to_meter_id(address)
    if meter != access.meter:
        raise UnknownMeter(f"telegram of {meter}, profile of {access.meter}")
    message = _Message(address, authentication, transport, access, last_counter, link_security)
    plain, security, counter = _open_transport(message)
    records = _application(transport.application, plain, formats, intact=security in _INTACT)
    access_no = transport.access_no
    if access_no is None and layers.extended is not None:
        access_no = layers.extended.access_no
    return Telegram(meter, access_no, transport.status, security, counter, records)


def sender(layers: Layers, key: bytes | None) -> MeterId:
    """Which meter a telegram is from, also where a sealed link layer hides it behind an adapter's address.

    For tools that take a key for "whatever this is"; a gateway asks its profiles for `layers.meter`.

    Raises:
        LmnError: the link layer cannot be opened.
    """
    if layers.sealed is None or layers.extended is None:
        return layers.meter
    body, _ = link_ctr.decrypt(key, layers.link_address, layers.extended, layers.sealed)
    _, transport = parse_upper(body)
    return to_meter_id(transport.address or layers.link_address)


def _open_link(layers: Layers, access: MeterAccess, last_counter: int | None) -> tuple[bytes, bool]:
    assert layers.extended is not None
    assert layers.sealed is not None
    if access.mode is ReceptionMode.STRICT and link_ctr.encryption(layers.extended):
        raise SecurityUnsupported(
            "link-layer encryption has no authentication: not accepted by a strict profile"
        )
    body, was_encrypted = link_ctr.decrypt(access.key, layers.link_address, layers.extended, layers.sealed)
    if was_encrypted and last_counter is not None:
        raise DowngradeRefused("this meter sent authenticated telegrams before; this one has no counter")
    return body, was_encrypted


@dataclass(frozen=True, slots=True, repr=False)
class _Message:
    """What the security modes need of one telegram."""

    address: bytes
    authentication: Authentication | None
    transport: Transport
    access: MeterAccess
    last_counter: int | None
    link_security: Security


_Opened = tuple[bytes, Security, int | None]


def _open_transport(message: _Message) -> _Opened:
    mode = message.transport.mode
    opener = _MODES.get(mode)
    if opener is None:
        name = _UNBUILT.get(mode, f"{mode} (reserved)")
        raise SecurityUnsupported(f"security mode {name} is not built")
    return opener(message)


def _key(message: _Message) -> bytes:
    if message.access.key is None:
        raise KeyRefused("encrypted, and no key is given for this meter")
    return message.access.key


def _check_counter(counter: int, last_counter: int | None) -> None:
    if last_counter is not None and counter <= last_counter:
        raise CounterRefused(f"message counter {counter} is not above {last_counter}")


def _refuse_unprotected(message: _Message) -> None:
    """A telegram that nobody can vouch for: allowed only where the profile knows no better.

    Raises:
        DowngradeRefused: the meter has a key.
        SecurityUnsupported: a strict profile.
    """
    if message.access.key is not None:
        raise DowngradeRefused("this meter has a key, and the telegram is not protected")
    if message.access.mode is ReceptionMode.STRICT:
        raise SecurityUnsupported("not protected: not accepted by a strict profile")


def _open_mode0(message: _Message) -> _Opened:
    transport = message.transport
    if message.link_security is Security.NONE and transport.application is not Application.NONE:
        _refuse_unprotected(message)
    if (
        message.authentication is not None
        and message.authentication.mac
        and message.link_security is Security.NONE
    ):
        # Without a key nobody can check the code; a telegram that claims one is not passed on unchecked.
        raise KeyRefused("authenticated, and no key is given for this meter")
    return transport.raw[transport.after_header :], message.link_security, None


def _open_mode5(message: _Message) -> _Opened:
    transport, access = message.transport, message.access
    data = transport.raw[transport.after_header :]
    if access.mode is ReceptionMode.STRICT:
        raise DowngradeRefused("mode 5 has no authentication: not accepted by a strict profile")
    if message.last_counter is not None:
        raise DowngradeRefused("this meter sent authenticated telegrams before; mode 5 has no counter")
    if message.authentication is not None and message.authentication.mac:
        raise SecurityUnsupported("mode 5 with an authentication layer")
    blocks = mode5.block_count(transport.configuration)
    if data[:2] == mode5.VERIFICATION and (access.key is None or blocks == 0):
        # Nothing is encrypted, or someone decrypted it before us: worth as much as mode 0.
        return _open_mode0(message)
    key = _key(message)
    assert transport.access_no is not None  # mode 5 is only in headers that have one
    vector = mode5.initialisation_vector(message.address, transport.access_no)
    # Some older meters announce no block and encrypt all of them; the check bytes tell.
    plain = mode5.decrypt_cbc(key, vector, data, blocks or len(data) // mode5.BLOCK)
    return plain, Security.MODE5, None


def _open_mode7(message: _Message) -> _Opened:
    transport, authentication, access = message.transport, message.authentication, message.access
    if access.key is None and access.mode is ReceptionMode.OPEN and authentication is not None:
        clear = mode7.clear_text(authentication, transport)
        if clear is not None and message.last_counter is None:
            return clear, Security.NONE, None
    key = _key(message)
    if authentication is None or not authentication.mac:
        raise MacRefused("mode 7 without an authentication code")
    if authentication.counter is None:
        raise MacRefused("mode 7 without a message counter")
    encryption, mac_key = wireless_keys(key, authentication.counter, message.address[2:6])
    mode7.check_mac(mac_key, authentication, transport)
    counter = int.from_bytes(authentication.counter, "little")
    _check_counter(counter, message.last_counter)
    if mode5.block_count(transport.configuration) == 0:
        raise DowngradeRefused("mode 7 with nothing encrypted")
    return mode7.decrypt(encryption, authentication, transport), Security.MODE7, counter


def _open_mode10(message: _Message) -> _Opened:
    key = _key(message)
    if message.authentication is not None and message.authentication.mac:
        raise SecurityUnsupported("mode 10 with an authentication layer")
    sealed = mode10.split(message.transport)
    encryption, _ = wireless_keys(key, sealed.counter, message.address[2:6])
    plain = mode10.decrypt(encryption, message.address, sealed)
    counter = int.from_bytes(sealed.counter, "little")
    _check_counter(counter, message.last_counter)
    return plain, Security.MODE10, counter


_UNBUILT: Final = {
    1: "1 (the maker's own)",
    2: "2 (DES)",
    3: "3 (DES)",
    4: "4 (reserved)",
    6: "6 (reserved)",
    8: "8 (AES-CTR with CMAC; no public recipe)",
    9: "9 (AES-GCM)",
    13: "13 (TLS; radio is receive-only)",
}
_MODES: Final[dict[int, Callable[[_Message], _Opened]]] = {
    0: _open_mode0,
    5: _open_mode5,
    7: _open_mode7,
    10: _open_mode10,
}


def _application(
    application: Application, plain: bytes, formats: FormatCache | None, *, intact: bool
) -> tuple[Record, ...]:
    if application is Application.FULL:
        records = record_codec.parse(plain, intact=intact)
        if formats is not None:
            formats.learn_records(records)
        return records
    if application is Application.NONE:
        if plain.strip(b"\x2f"):
            raise LengthMismatch("data behind a header that announces none")
        return ()
    if formats is None:
        raise SecurityUnsupported("compact frames are not accepted here")
    content = plain.removeprefix(mode5.VERIFICATION)
    if application is Application.COMPACT:
        return formats.expand(content)
    formats.learn_format_frame(content)
    return ()
