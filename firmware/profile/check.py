"""What the fields of a profile set must be together. Pure; finds everything at once and says where.

A place is written as in the document: "communication[1].net.n_min", counted from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Final

from firmware.enforcement.determination import marks
from firmware.enforcement.schedule import delivery_period_s
from firmware.metering.register import half_window
from firmware.metering.tariff.catalogue import USE_CASES
from firmware.profile.check_proxy import check_proxies, proxy_warnings
from firmware.profile.check_tariffs import Problem, check_tariff
from firmware.profile.instants import INSTANT, whole
from firmware.profile.model import (
    MIN_SECURE_MEMBERS,
    CommunicationProfile,
    NetPolicy,
    ProcessingProfile,
    ProfileSet,
)
from firmware.profile.net_cells import problems as cell_problems
from firmware.profile.net_sizes import cannot_begin, unservable
from firmware.profile.net_terms import contradictions
from firmware.profile.pem import to_der
from firmware.profile.validity import check_validity
from lmn.model import MeterId, Obis

_REGULAR_PERIOD_S: Final = 900
"""From this registration period on the acceptance window is 1 % and nothing else."""
_LANES: Final = ("import", "export", "canary")
_LANE_UNITS_PER_WH: Final = 10
_INTERVAL_SERIES: Final = 7
_PURPOSES: Final = {9: "grid", 10: "grid", 11: "grid", 13: "service", 14: "service"}
_CONCEALED_OBIS: Final = "1-0:1.8.0"
_RING: Final = 1 << 63


def check(profiles: ProfileSet, *, small_nets_allowed: bool) -> list[Problem]:
    """Return every problem of a set; empty means that it may be activated (as far as form goes).

    Args:
        profiles: the whole set.
        small_nets_allowed: `insecure_small_nets` of gateway.toml. A net below the floor of 16 members needs
            that switch here *and* in its own policy.
    """
    problems = [*_unique(profiles), *_meters(profiles)]
    for index, processing in enumerate(profiles.processing):
        problems += _processing(f"processing[{index}]", processing, profiles)
    for index, communication in enumerate(profiles.communication):
        problems += _communication(f"communication[{index}]", communication, profiles, small_nets_allowed)
    return [*problems, *_peers(profiles), *_nets(profiles), *check_proxies(profiles)]


def warnings(profiles: ProfileSet) -> list[Problem]:
    """Return what is allowed and yet surely not meant, such as profiles of which the gate denies all."""
    found: list[Problem] = []
    for index, communication in enumerate(profiles.communication):
        processing = profiles.processing_of(communication)
        if processing is not None and communication.recipient not in processing.recipients:
            found.append(
                Problem(
                    f"communication[{index}].recipient",
                    f"a recipient of {processing.id}: the gate will deny every sending",
                )
            )
    return [*found, *proxy_warnings(profiles)]


def _repeated(prefix: str, field: str, values: Iterable[str]) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield Problem(
                f"{prefix}[{index}].{field}", f"a value that no other entry has, not {value!r} again"
            )
        seen.add(value)


def _unique(profiles: ProfileSet) -> Iterator[Problem]:
    yield from _repeated("meters", "id", (profile.id for profile in profiles.meters))
    yield from _repeated("processing", "id", (profile.id for profile in profiles.processing))
    yield from _repeated("communication", "id", (profile.id for profile in profiles.communication))
    yield from _repeated("proxy", "id", (profile.id for profile in profiles.proxy))
    yield from _repeated("meters", "meter", (profile.meter.upper() for profile in profiles.meters))


def _reads(reader: Callable[[str], object], text: str) -> bool:
    try:
        reader(text)
    except ValueError:
        return False
    return True


def _meters(profiles: ProfileSet) -> Iterator[Problem]:
    for index, profile in enumerate(profiles.meters):
        if not _reads(MeterId.from_text, profile.meter):
            yield Problem(f"meters[{index}].meter", "a meter id such as ELS-12345678-33-03")


def _processing(place: str, profile: ProcessingProfile, profiles: ProfileSet) -> Iterator[Problem]:
    meter = next((one for one in profiles.meters if one.meter == profile.meter), None)
    if meter is None:
        yield Problem(f"{place}.meter", f"a meter that a meter profile names, not {profile.meter}")
    elif meter.consumer != profile.consumer:
        yield Problem(
            f"{place}.consumer", f"the consumer of the meter ({meter.consumer}), not {profile.consumer}"
        )
    yield from _more_meters(place, profile, profiles)
    if not _reads(Obis.from_text, profile.obis):
        yield Problem(f"{place}.obis", "an OBIS code with groups up to 255")
    for index, text in enumerate(profile.more_obis):
        if not _reads(Obis.from_text, text):
            yield Problem(f"{place}.more_obis[{index}]", "an OBIS code with groups up to 255")
    yield from check_validity(place, profile.valid_from, profile.valid_until)
    if profile.taf == 1 and profile.billing_period_s is None and profile.billing_calendar is None:
        yield Problem(f"{place}.billing_period_s", "the length of the billing period (TAF 1 needs one)")
    if profile.billing_period_s is not None and profile.billing_period_s % profile.registration_period_s:
        yield Problem(f"{place}.billing_period_s", "a multiple of registration_period_s")
    if profile.window_s and profile.registration_period_s >= _REGULAR_PERIOD_S:
        yield Problem(
            f"{place}.window_s", f"none: from {_REGULAR_PERIOD_S} s on the window is 1 % of the period"
        )
    elif profile.window_s * 2 >= profile.registration_period_s:
        yield Problem(
            f"{place}.window_s", "less than half the registration period, so that windows do not meet"
        )
    if len(set(profile.recipients)) != len(profile.recipients):
        yield Problem(f"{place}.recipients", "each recipient once")
    yield from check_tariff(place, profile)


def _more_meters(place: str, profile: ProcessingProfile, profiles: ProfileSet) -> Iterator[Problem]:
    """Several meters are one consumer's, and nobody gets their values but added and concealed."""
    owners = {one.meter: one.consumer for one in profiles.meters}
    for index, meter in enumerate(profile.more_meters):
        if meter not in owners:
            yield Problem(f"{place}.more_meters[{index}]", f"a meter that a meter profile names, not {meter}")
        elif owners[meter] != profile.consumer:
            yield Problem(f"{place}.more_meters[{index}]", f"a meter of {profile.consumer}")
    if len({meter.upper() for meter in profile.meters}) != len(profile.meters):
        yield Problem(f"{place}.more_meters", "each meter once")
    uses = [one for one in profiles.communication if one.processing == profile.id]
    if profile.more_meters and not (uses and all(one.concealment == "dc-net" for one in uses)):
        yield Problem(f"{place}.more_meters", "none: only what a net conceals is a sum of several meters")


def _communication(
    place: str, profile: CommunicationProfile, profiles: ProfileSet, small_nets_allowed: bool
) -> Iterator[Problem]:
    processing = profiles.processing_of(profile)
    if processing is None:
        yield Problem(f"{place}.processing", f"the id of a processing profile, not {profile.processing!r}")
    if profile.recipient != profile.peer.name:
        yield Problem(f"{place}.peer.name", f"the recipient's name {profile.recipient}")
    certificates = {
        "tls_certificate": profile.peer.tls_certificate,
        "sig_certificate": profile.peer.sig_certificate,
        "enc_certificate": profile.peer.enc_certificate,
    }
    for field, text in certificates.items():
        if text is not None and not _reads(to_der, text):
            yield Problem(f"{place}.peer.{field}", "one certificate in PEM form")
    if profile.peer.enc_certificate is None:
        yield Problem(
            f"{place}.peer.enc_certificate", "the recipient's ENC certificate (deliveries are sealed for it)"
        )
    concealed = profile.concealment != "none"
    if processing is not None and not concealed and profile.purpose != _purpose(processing):
        yield Problem(f"{place}.purpose", f'"{_purpose(processing)}", the purpose of TAF {processing.taf}')
    if concealed != (profile.purpose == "group-total"):
        yield Problem(
            f"{place}.concealment",
            'purpose "group-total" together with concealment "dc-net", or neither of them',
        )
    if concealed and profile.peer.sig_certificate is None:
        yield Problem(f"{place}.peer.sig_certificate", "the recipient's SIG certificate (it signs manifests)")
    if concealed != (profile.net is not None):
        yield Problem(f"{place}.net", 'a net policy if and only if concealment is "dc-net"')
    if profile.spread_s and concealed:
        yield Problem(f"{place}.spread_s", "none: the net's deadlines say when its frames leave")
    elif profile.spread_s and processing is not None and profile.spread_s > _longest_spread_s(processing):
        yield Problem(
            f"{place}.spread_s",
            f"at most {_longest_spread_s(processing)}, so that no delivery waits beyond the next one",
        )
    if profile.pseudonymised:
        yield from _pseudonymised(f"{place}.pseudonymised", profile, processing, profiles)
    if profile.net is not None:
        yield from _net(f"{place}.net", profile.net, processing, small_nets_allowed)


def _pseudonymised(
    place: str, profile: CommunicationProfile, processing: ProcessingProfile | None, profiles: ProfileSet
) -> Iterator[Problem]:
    if profile.concealment != "none":
        yield Problem(place, "false: the members of a net are known by their names")
    if profile.purpose not in _PURPOSES.values():
        yield Problem(place, f"false: what is for {profile.purpose} must say whose it is")
    if processing is None:
        return
    if processing.signed_values:
        yield Problem(place, "false: values that the gateway signs say whose they are")
    for other in profiles.communication:
        named = profiles.processing_of(other)
        told = not other.pseudonymised and other.concealment == "none"
        if not told or named is None or named.consumer != processing.consumer:
            continue
        if not set(marks(other.peer)).isdisjoint(marks(profile.peer)):
            yield Problem(
                place,
                f"a recipient that gets nothing of {processing.consumer} under its name; {other.id} would "
                "let it find the owner by comparing values",
            )


def _longest_spread_s(processing: ProcessingProfile) -> int:
    """Return the longest spread: what sends on requests or events may do so at each registration."""
    use_case = USE_CASES[processing.taf]
    often = use_case.fired is not None or use_case.on_request
    period_s = processing.registration_period_s if often else delivery_period_s(processing)
    reach_s = half_window(processing.registration_period_s, processing.window_s).total_seconds()
    return max(0, int(period_s - reach_s) - 1)


def _purpose(processing: ProcessingProfile) -> str:
    """Return what a use case's plain results are for."""
    return _PURPOSES.get(processing.taf, "billing")


def _net(
    place: str, net: NetPolicy, processing: ProcessingProfile | None, small_nets_allowed: bool
) -> Iterator[Problem]:
    if net.n_min < MIN_SECURE_MEMBERS and not (net.insecure_small_nets and small_nets_allowed):
        yield Problem(
            f"{place}.n_min",
            f"at least {MIN_SECURE_MEMBERS}, or insecure_small_nets in the policy and in gateway.toml",
        )
    if net.n_max < net.n_min:
        yield Problem(f"{place}.n_max", "at least n_min")
    if net.n_max * net.max_wh * _LANE_UNITS_PER_WH * max(1, net.reconcile_slots) >= _RING:
        yield Problem(
            f"{place}.max_wh", "n_max * max_wh * 10 * reconcile_slots below 2**63, so that no sum wraps"
        )
    if not net.submit_s < net.manifest_s <= net.open_s <= net.slot_s:
        yield Problem(f"{place}.submit_s", "submit_s < manifest_s <= open_s <= slot_s")
    if net.recovery == "witness" and not net.open_s < net.recover_s <= net.slot_s:
        yield Problem(f"{place}.recover_s", "open_s < recover_s <= slot_s")
    if net.d_min >= net.n_min:
        yield Problem(f"{place}.d_min", "less than n_min")
    elif net.n_min <= net.n_max:
        bounds = (net.n_min, net.n_max, net.d_min, net.k, net.cells)
        if help_ := unservable(*bounds):
            yield Problem(f"{place}.d_min", f"a number of members that has a key graph: {help_}")
        elif help_ := cannot_begin(net.n_start, *bounds):
            yield Problem(f"{place}.n_start", f"a number of members that has a key graph: {help_}")
    cells = (net.cells, net.bridges, net.n_min)
    witnessed = net.recovery == "witness"
    for field, expected in cell_problems(*cells, witnessed=witnessed, insecure=net.insecure_small_nets):
        yield Problem(f"{place}.{field}", expected)
    for field, needed in contradictions(net):
        yield Problem(f"{place}.{field}", needed)
    if net.lanes != _LANES:
        yield Problem(f"{place}.lanes", '["import", "export", "canary"]')
    if not whole(net.t0_utc):
        yield Problem(f"{place}.t0_utc", INSTANT)
    if processing is None:
        return
    period = timedelta(seconds=processing.registration_period_s)
    if processing.taf != _INTERVAL_SERIES:
        yield Problem(
            f"{place}.slot_s", "a processing profile with TAF 7: slots are its registration periods"
        )
    if processing.obis.split("*")[0] != _CONCEALED_OBIS:
        yield Problem(
            f"{place}.lanes", f"a processing profile of {_CONCEALED_OBIS}, which the import lane carries"
        )
    if net.submit_s <= half_window(processing.registration_period_s, processing.window_s).total_seconds():
        yield Problem(f"{place}.submit_s", "more than the acceptance window: earlier there is no value")
    if net.slot_s != processing.registration_period_s:
        yield Problem(f"{place}.slot_s", f"the registration period, {processing.registration_period_s} s")
    elif (net.t0_utc - processing.valid_from) % period:
        yield Problem(f"{place}.t0_utc", f"a registration instant of {processing.id}")


def _peers(profiles: ProfileSet) -> Iterator[Problem]:
    first: dict[str, CommunicationProfile] = {}
    for index, profile in enumerate(profiles.communication):
        known = first.setdefault(profile.peer.name, profile)
        if known.peer != profile.peer:
            yield Problem(
                f"communication[{index}].peer", f"the same entry for {profile.peer.name} as in {known.id}"
            )


def _nets(profiles: ProfileSet) -> Iterator[Problem]:
    """One membership a net and a register at a time: a slot in two nets would give two sums close together.

    A register that changes its supplier is in the old net until it is in the new one.
    """
    nets: set[str] = set()
    taken: list[ProcessingProfile] = []
    for index, profile in enumerate(profiles.communication):
        if profile.net is None:
            continue
        if profile.net.net_id in nets:
            yield Problem(f"communication[{index}].net.net_id", "a net that no other profile uses")
        nets.add(profile.net.net_id)
        processing = profiles.processing_of(profile)
        if processing is None:
            continue
        if any(_at_once(processing, other) for other in taken):
            yield Problem(
                f"communication[{index}].processing", "a measurand that is in no other net at the same time"
            )
        taken.append(processing)


def _at_once(one: ProcessingProfile, other: ProcessingProfile) -> bool:
    """Tell whether two profiles cover some time of the same measurand."""
    if set(one.meters).isdisjoint(other.meters) or one.obis.split("*")[0] != other.obis.split("*")[0]:
        return False
    first, last = sorted((one, other), key=lambda profile: profile.valid_from)
    return first.valid_until is None or last.valid_from < first.valid_until
