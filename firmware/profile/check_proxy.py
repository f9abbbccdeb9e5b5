"""What the fields of proxy profiles must be together, and beside the rest of the set. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import gcd
from typing import Final

from firmware.enforcement.determination import marks
from firmware.profile.check_tariffs import HOUR_S, Problem
from firmware.profile.model import CommunicationProfile, PeerEntry, ProfileSet
from firmware.profile.pem import key_curve, key_fingerprint, to_der
from firmware.profile.proxy import SUITES, WEEK, MarketParticipant, ProxyProfile, TlsRules, Weekday, Window
from firmware.profile.validity import check_validity

_DAY_MIN: Final = 24 * 60
_WEEK_S: Final = 7 * 86400
_Recipient = tuple[CommunicationProfile, frozenset[str]]
"""What goes to somebody, and by what he is known."""
_OPENED_FOR_IT: Final = frozenset(("emt", "gateway"))
"""Who opens a channel so that the gateway connects to the device."""


def check_proxies(profiles: ProfileSet) -> Iterator[Problem]:
    """Find everything wrong with the proxy profiles of a set."""
    recipients = _recipients(profiles) if profiles.proxy else []
    for index, profile in enumerate(profiles.proxy):
        place = f"proxy[{index}]"
        yield from check_validity(place, profile.valid_from, profile.valid_until)
        yield from _opening(place, profile)
        yield from _windows(f"{place}.windows", profile.windows)
        if profile.limits.idle_s > profile.limits.duration_s:
            yield Problem(f"{place}.limits.idle_s", f"at most duration_s ({profile.limits.duration_s})")
        yield from _tls(f"{place}.han", profile.han)
        yield from _tls(f"{place}.wan", profile.wan)
        yield from _certificates(place, profile)
        yield from _in_the_set(place, profile, profiles)
        yield from _pseudonyms(f"{place}.emt", profile, profiles, recipients)
    yield from _among_themselves(profiles.proxy)


def proxy_warnings(profiles: ProfileSet) -> Iterator[Problem]:
    """Find what is allowed and yet surely not meant, or what the gateway cannot keep from happening."""
    recipients = _recipients(profiles) if profiles.proxy else []
    for index, profile in enumerate(profiles.proxy):
        if profile.open_every_s is not None and profile.windows and not _ever_opens(profile):
            yield Problem(
                f"proxy[{index}].open_every_s",
                "an instant inside a window: the gateway would never open this channel",
            )
        for one in _sent_to(profile.emt, recipients):
            processing = profiles.processing_of(one)
            own = processing is not None and processing.consumer == profile.consumer
            if own and one.concealment != "none":
                yield Problem(
                    f"proxy[{index}].emt",
                    f"another participant than {one.id} has, unless the device measures nothing: what it "
                    "sends through the channel the gateway cannot conceal",
                )


def _once(place: str, values: Sequence[str]) -> Iterator[Problem]:
    for index, value in enumerate(values):
        if value in values[:index]:
            yield Problem(f"{place}[{index}]", f"a value that stands there once, not {value!r} again")


def _opening(place: str, profile: ProxyProfile) -> Iterator[Problem]:
    yield from _once(f"{place}.opened_by", profile.opened_by)
    yield from _once(f"{place}.addressing", profile.addressing)
    if ("cls" in profile.opened_by) != (profile.local_name is not None):
        yield Problem(f"{place}.local_name", 'a name if and only if opened_by has "cls"')
    if ("gateway" in profile.opened_by) != (profile.open_every_s is not None):
        yield Problem(f"{place}.open_every_s", 'a time if and only if opened_by has "gateway"')
    device, needed = profile.device, not _OPENED_FOR_IT.isdisjoint(profile.opened_by)
    for field in ("host", "port"):
        if getattr(device, field) is None and (needed or device.host is not None or device.port is not None):
            yield Problem(
                f"{place}.device.{field}",
                "the address of the device: the gateway connects to it"
                if needed
                else "host and port, or none",
            )


def _minutes(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def _windows(place: str, windows: Sequence[Window]) -> Iterator[Problem]:
    spans: dict[Weekday, list[tuple[int, int, int]]] = {}
    for index, window in enumerate(windows):
        yield from _once(f"{place}[{index}].days", window.days)
        begin, end = _minutes(window.begins), _minutes(window.ends)
        if end <= begin:
            yield Problem(
                f"{place}[{index}].ends",
                f"a time after {window.begins}; what goes on after midnight is a window of the next day",
            )
            continue
        for day in dict.fromkeys(window.days):
            spans.setdefault(day, []).append((begin, end, index))
    crossing: dict[int, Weekday] = {}
    for day, found in spans.items():
        until = 0
        for begin, end, index in sorted(found):
            if begin < until:
                crossing.setdefault(index, day)
            until = max(until, end)
    for index, day in sorted(crossing.items()):
        yield Problem(f"{place}[{index}]", f"a window that shares no time of a {day} with another one")


def _tls(place: str, rules: TlsRules) -> Iterator[Problem]:
    yield from _once(f"{place}.versions", rules.versions)
    yield from _once(f"{place}.suites", rules.suites)
    yield from _once(f"{place}.curves", rules.curves)
    for version, suites in SUITES.items():
        if version in rules.versions and set(rules.suites).isdisjoint(suites):
            yield Problem(f"{place}.suites", f"a suite of TLS {version}, which versions has")
        for index, suite in enumerate(rules.suites):
            if suite in suites and version not in rules.versions:
                yield Problem(f"{place}.suites[{index}]", f"nothing of TLS {version}, which versions lacks")


def _certificates(place: str, profile: ProxyProfile) -> Iterator[Problem]:
    pinned: list[bytes] = []
    for index, text in enumerate(profile.device.certificates):
        here = f"{place}.device.certificates[{index}]"
        if not _is_certificate(text):
            yield Problem(here, "one certificate in PEM form")
            continue
        if key_curve(text) not in {curve.lower() for curve in profile.han.curves}:
            yield Problem(
                here, f"a certificate of a key on one of the curves of han: {', '.join(profile.han.curves)}"
            )
        if (der := to_der(text)) in pinned:
            yield Problem(here, "another certificate than those before it")
        pinned.append(der)
    if not _is_certificate(profile.emt.tls_certificate):
        yield Problem(f"{place}.emt.tls_certificate", "one certificate in PEM form")
    elif key_fingerprint(profile.emt.tls_certificate) in map(key_fingerprint, profile.device.certificates):
        yield Problem(
            f"{place}.emt.tls_certificate", "the participant's certificate: this key is the device's"
        )


def _is_certificate(text: str) -> bool:
    try:
        to_der(text)
    except ValueError:
        return False
    return True


def _in_the_set(place: str, profile: ProxyProfile, profiles: ProfileSet) -> Iterator[Problem]:
    """Hold a profile against tariffs and recipients: a name is one party, a device one consumer's."""
    for processing in profiles.processing:
        control = processing.control
        switched = control is not None and control.cls_device == profile.device.name
        if switched and processing.consumer != profile.consumer:
            yield Problem(
                f"{place}.consumer",
                f"{processing.consumer}, whose {processing.id} switches {profile.device.name}",
            )
    named = next((one for one in profiles.communication if one.peer.name == profile.emt.name), None)
    if named is not None and key_fingerprint(named.peer.tls_certificate) != key_fingerprint(
        profile.emt.tls_certificate
    ):
        yield Problem(
            f"{place}.emt.tls_certificate",
            f"a certificate of the key that {named.id} has for {profile.emt.name}",
        )


def _pseudonyms(
    place: str, profile: ProxyProfile, profiles: ProfileSet, recipients: Sequence[_Recipient]
) -> Iterator[Problem]:
    """A channel shows its participant the gateway's certificate, from which a pseudonym keeps it."""
    theirs = list(_sent_to(profile.emt, recipients))
    known = any(not one.pseudonymised for one in theirs)
    for one in theirs:
        processing = profiles.processing_of(one)
        own = processing is not None and processing.consumer == profile.consumer
        if one.pseudonymised and (own or not known):
            yield Problem(
                place, f"a participant that gets nothing under a pseudonym, as {one.id} would send it"
            )


def _recipients(profiles: ProfileSet) -> list[_Recipient]:
    return [(one, frozenset(marks(one.peer))) for one in profiles.communication]


def _sent_to(emt: MarketParticipant, recipients: Sequence[_Recipient]) -> Iterator[CommunicationProfile]:
    """Return what goes to a participant, under whatever name: one name, address or key makes it the same."""
    entry = PeerEntry(
        name=emt.name,
        host=emt.host,
        port=emt.port,
        server_name=emt.server_name or emt.host,
        tls_certificate=emt.tls_certificate,
    )
    own = marks(entry)
    yield from (one for one, theirs in recipients if not theirs.isdisjoint(own))


def _among_themselves(proxies: Sequence[ProxyProfile]) -> Iterator[Problem]:
    names: set[str] = set()
    devices: dict[str, ProxyProfile] = {}
    parties: dict[str, ProxyProfile] = {}
    keys: dict[str, ProxyProfile] = {}
    for index, profile in enumerate(proxies):
        place = f"proxy[{index}]"
        if profile.local_name is not None and profile.local_name in names:
            yield Problem(
                f"{place}.local_name", f"a name that no other profile has, not {profile.local_name!r} again"
            )
        names |= {profile.local_name} if profile.local_name is not None else set()
        known = devices.setdefault(profile.device.name, profile)
        if known.device != profile.device:
            yield Problem(f"{place}.device", f"the same entry for {profile.device.name} as in {known.id}")
        if known.consumer != profile.consumer:
            yield Problem(
                f"{place}.consumer", f"{known.consumer}, whose {profile.device.name} is in {known.id}"
            )
        party = parties.setdefault(profile.emt.name, profile)
        if key_fingerprint(party.emt.tls_certificate) != key_fingerprint(profile.emt.tls_certificate):
            yield Problem(
                f"{place}.emt.tls_certificate",
                f"a certificate of the key that {party.id} has for {party.emt.name}",
            )
        for position, text in enumerate(profile.device.certificates):
            owner = keys.setdefault(key_fingerprint(text), profile)
            if owner.device.name != profile.device.name:
                yield Problem(
                    f"{place}.device.certificates[{position}]",
                    f"a certificate of a key that is not another device's ({owner.device.name})",
                )


def _ever_opens(profile: ProxyProfile) -> bool:
    """Tell whether some opening lies in a window, in standard or in summer time: both repeat every week."""
    step_s = gcd(profile.open_every_s or _WEEK_S, _WEEK_S)
    offset_s = 60 * profile.utc_offset_min
    offsets = {offset_s, offset_s + (HOUR_S if profile.summer_time == "eu" else 0)}
    # 1970-01-01 was a Thursday, so that instants count in weeks that begin there.
    start_s = int(profile.valid_from.timestamp())
    for window in profile.windows:
        for day in window.days:
            monday_s = 86400 * ((WEEK.index(day) - WEEK.index("thursday")) % 7)
            begin_s = monday_s + 60 * _minutes(window.begins)
            length_s = 60 * (_minutes(window.ends) - _minutes(window.begins))
            if any((start_s + offset - begin_s) % step_s < length_s for offset in offsets):
                return True  # the first opening after the window's begin comes before its end
    return False
