"""Profile documents: JSON as orders carry it, TOML as people write it, one definition for both.

Every fault is found at once and named with its place; faults of meaning are looked for once the form is
right.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from firmware.document import Document, read_json, read_toml
from firmware.errors import ConfigurationRefused, Fault
from firmware.profile.check import check
from firmware.profile.model import CommunicationProfile, PeerEntry, ProfileSet
from firmware.profile.proxy import ProxyProfile
from firmware.toml_lines import KeyPath

_PEM_START: Final = "-----BEGIN"
_CERTIFICATE_FIELDS: Final = ("tls_certificate", "sig_certificate", "enc_certificate")
_MAX_PEM_BYTES: Final = 16384
_PLACE: Final = re.compile(r"\[(\d+)\]|([a-z_]+)")


def to_json(profiles: ProfileSet) -> bytes:
    """Return the JSON document of a set; the same set gives the same bytes."""
    return msgspec.json.encode(profiles)


def from_json(text: bytes, *, small_nets_allowed: bool, source: str = "order") -> ProfileSet:
    """Read and check the JSON document of a set.

    Args:
        text: the document, any bytes.
        small_nets_allowed: `insecure_small_nets` of gateway.toml.
        source: how faults call the document.

    Raises:
        ConfigurationRefused: with every fault of form; where the form is right, with every fault of meaning.
    """
    document = read_json(_without_null(text), ProfileSet, file=source)
    return _checked(document, document.value, small_nets_allowed=small_nets_allowed)


def from_toml(path: Path, *, small_nets_allowed: bool) -> ProfileSet:
    """Read and check a TOML file of a set; a certificate may stand there as the path of a file beside it.

    Args:
        path: the file.
        small_nets_allowed: what the gateways it is for will allow.

    Raises:
        ConfigurationRefused: with every fault and its line.
    """
    document = read_toml(path, ProfileSet)
    profiles = _with_certificates(document, path.parent)
    return _checked(document, profiles, small_nets_allowed=small_nets_allowed)


def _without_null(text: bytes) -> bytes:
    """Leave out what is null in a document: on the wire it says the same as a key that is not there."""
    try:
        return msgspec.json.encode(_present(msgspec.json.decode(text)))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return text  # whoever reads it next says what is wrong


def _present(value: object) -> object:
    if isinstance(value, dict):
        return {key: _present(part) for key, part in value.items() if part is not None}
    return [_present(part) for part in value] if isinstance(value, list) else value


def _checked(document: Document[ProfileSet], profiles: ProfileSet, *, small_nets_allowed: bool) -> ProfileSet:
    problems = check(profiles, small_nets_allowed=small_nets_allowed)
    if problems:
        raise ConfigurationRefused([document.fault(key_path(one.place), one.expected) for one in problems])
    return profiles


def key_path(place: str) -> KeyPath:
    """Return the keys of a place such as "communication[1].net.n_min"."""
    return tuple(int(index) if index else name for index, name in _PLACE.findall(place))


class _Certificates:
    """Puts the text of certificate files in place of their paths, and collects what cannot be read."""

    def __init__(self, document: Document[ProfileSet], folder: Path) -> None:
        self._document, self._folder = document, folder
        self.faults: list[Fault] = []

    def text(self, place: KeyPath, text: str) -> str:
        """Return the certificate that stands at `place`, or is named there."""
        if _PEM_START in text:
            return text
        try:
            with (self._folder / text).open("rb") as file:
                return file.read(_MAX_PEM_BYTES).decode("ascii")
        except (OSError, ValueError) as error:
            problem = error.strerror if isinstance(error, OSError) else "not ASCII"
            expected = f"a certificate in PEM form or the path of one ({problem})"
            self.faults.append(self._document.fault(place, expected))
            return text


def _with_certificates(document: Document[ProfileSet], folder: Path) -> ProfileSet:
    """Return the set with the text of each certificate."""
    read = _Certificates(document, folder)
    communication: list[CommunicationProfile] = []
    for index, profile in enumerate(document.value.communication):
        peer: PeerEntry = profile.peer
        for field in _CERTIFICATE_FIELDS:
            text = getattr(peer, field)
            if text is not None:
                found = read.text(("communication", index, "peer", field), text)
                peer = msgspec.structs.replace(peer, **{field: found})
        communication.append(msgspec.structs.replace(profile, peer=peer))
    proxies: list[ProxyProfile] = []
    for index, proxy in enumerate(document.value.proxy):
        pinned = tuple(
            read.text(("proxy", index, "device", "certificates", position), text)
            for position, text in enumerate(proxy.device.certificates)
        )
        theirs = read.text(("proxy", index, "emt", "tls_certificate"), proxy.emt.tls_certificate)
        device = msgspec.structs.replace(proxy.device, certificates=pinned)
        emt = msgspec.structs.replace(proxy.emt, tls_certificate=theirs)
        proxies.append(msgspec.structs.replace(proxy, device=device, emt=emt))
    if read.faults:
        raise ConfigurationRefused(read.faults)
    return msgspec.structs.replace(document.value, communication=tuple(communication), proxy=tuple(proxies))
