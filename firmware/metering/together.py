"""The energy of a slot over all that a concealed profile measures: its meters, both directions. Pure.

A net gets one value of a household: its meters are added in here, where everybody may see them, and not by
the supplier. Spec: docs/dcnet.md, "Meters or gateways as members".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from firmware.metering.register import RegisteredValue, energy_between
from firmware.profile.model import ProcessingProfile
from lmn.model import ACTIVE_ENERGY_EXPORT, MeterId, Obis

Measurand = tuple[MeterId, Obis]


@dataclass(frozen=True, slots=True)
class Energy:
    """What all meters together counted between two instants, in Wh."""

    import_wh: int = field(repr=False)
    export_wh: int = field(repr=False)


def measured(processing: ProcessingProfile) -> tuple[Measurand, ...]:
    """Return what the lanes of a concealed profile hold: its import, and its export if that is registered.

    The first one is that of the first meter.
    """
    first, *others = (Obis.from_text(text) for text in processing.measurands)
    codes = (first, *(code for code in others if code == ACTIVE_ENERGY_EXPORT))
    return tuple((MeterId.from_text(meter), code) for meter in processing.meters for code in codes)


def energy_of(
    before: Iterable[RegisteredValue], after: Iterable[RegisteredValue], wanted: Sequence[Measurand]
) -> Energy | None:
    """Return the energy of all `wanted` between two instants; None if it is not known of every one."""
    starts, ends = ({(one.meter, one.obis): one for one in values} for values in (before, after))
    import_wh = export_wh = 0
    for one in wanted:
        energy_wh = energy_between(starts.get(one), ends.get(one))
        if energy_wh is None:
            return None
        if one[1] == ACTIVE_ENERGY_EXPORT:
            export_wh += energy_wh
        else:
            import_wh += energy_wh
    return Energy(import_wh, export_wh)


def last_complete(values: Iterable[RegisteredValue], wanted: Sequence[Measurand]) -> list[RegisteredValue]:
    """Return the values of the last instant at which all of `wanted` have one; empty if there is none."""
    at: dict[datetime, dict[Measurand, RegisteredValue]] = {}
    for one in values:
        if one.value is not None:
            at.setdefault(one.instant_utc, {})[one.meter, one.obis] = one
    known = [instant for instant, found in at.items() if found.keys() >= set(wanted)]
    return list(at[max(known)].values()) if known else []
