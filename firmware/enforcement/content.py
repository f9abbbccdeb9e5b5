"""Whether a data set is what its processing profile may yield: the gate's second line. Pure.

Whatever went wrong in evaluation, nothing but the form of the use case leaves: TAF 1 lets one value of a
measurand a billing period out, a stage tariff its registers of the period's end, a list lies on the profile's
own grid. Outside the cycle only the use cases that know requests or events send, and never more than they
may.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from firmware.enforcement.schedule import delivery_window, is_delivery, is_registration
from firmware.metering.dataset import Dataset
from firmware.metering.register import RegisteredValue
from firmware.metering.tariff.catalogue import USE_CASES, Form
from firmware.metering.tariff.steps import tariff_obis
from firmware.metering.tariff.taf_06 import retention
from firmware.metering.tariff.taf_08 import HIGHEST, LOWEST, extreme_obis
from firmware.profile.model import ProcessingProfile
from firmware.profile.tariffs import ERROR_STAGE, LAST_STAGE, Extremes
from lmn.model import Obis


def unfit(processing: ProcessingProfile, dataset: Dataset) -> str | None:
    """Return why a data set is not what its processing profile yields, None if it is."""
    if dataset.processing != processing.id or dataset.taf != processing.taf:
        return f"no data set of {processing.id}"
    if (dataset.usage_point, dataset.tariff) != (processing.usage_point or "", processing.tariff or ""):
        return "another usage point or tariff"
    fault = _unfit_occasion(processing, dataset) if dataset.occasion else _unfit_cycle(processing, dataset)
    if fault is not None:
        return fault
    for entry in dataset.entries:
        if str(entry.meter) != processing.meter:
            return "an entry of another meter"
        if not dataset.from_utc < entry.instant_utc <= dataset.to_utc:
            return "an entry from outside the period"
    seen = {(entry.obis, entry.instant_utc) for entry in dataset.entries}
    if len(seen) != len(dataset.entries) and USE_CASES[processing.taf].form is not Form.EXTREMES:
        return "an entry that is there twice"
    return _FORMS[USE_CASES[processing.taf].form](processing, dataset)


def longest_occasion(processing: ProcessingProfile) -> timedelta:
    """Return how much time a data set outside the cycle may cover."""
    step = timedelta(seconds=processing.registration_period_s)
    if processing.taf == 6:
        return retention(processing)
    if processing.control is not None:
        return timedelta(seconds=processing.control.before_s + processing.control.after_s) + 3 * step
    return step


def _unfit_cycle(processing: ProcessingProfile, dataset: Dataset) -> str | None:
    if not is_delivery(processing, dataset.to_utc):
        return "the period does not end where a delivery is due"
    if dataset.from_utc != delivery_window(processing, dataset.to_utc)[0]:
        return "the period does not begin where the last delivery ended"
    return None


def _unfit_occasion(processing: ProcessingProfile, dataset: Dataset) -> str | None:
    use_case = USE_CASES[processing.taf]
    if use_case.fired is None and not use_case.on_request:
        return f"TAF {processing.taf} sends in its cycle alone"
    if not is_registration(processing, dataset.to_utc):
        return "the period does not end at a registration instant"
    if dataset.to_utc - dataset.from_utc > longest_occasion(processing):
        return "a longer period than an occasion covers"
    return None


def _measurands(processing: ProcessingProfile) -> set[Obis]:
    return {Obis.from_text(text) for text in processing.measurands}


def _on_grid(processing: ProcessingProfile, instants: set[datetime]) -> str | None:
    off = any(not is_registration(processing, instant) for instant in instants)
    return "an entry off the registration grid" if off else None


def _instants(dataset: Dataset) -> set[datetime]:
    return {entry.instant_utc for entry in dataset.entries}


def _series(processing: ProcessingProfile, dataset: Dataset) -> str | None:
    if not {entry.obis for entry in dataset.entries} <= _measurands(processing):
        return "an entry of another measurand"
    return _on_grid(processing, _instants(dataset))


def _end(processing: ProcessingProfile, dataset: Dataset) -> str | None:
    if len(dataset.entries) > len(processing.measurands):
        return "more than one value of a billing period"
    return _series(processing, dataset)


def _of_the_end(processing: ProcessingProfile, dataset: Dataset, allowed: set[Obis]) -> str | None:
    if not {entry.obis for entry in dataset.entries} <= allowed:
        return "an entry of another measurand"
    if not _instants(dataset) <= {dataset.to_utc}:
        return "an entry from inside the period"
    return _on_grid(processing, _instants(dataset))


def _stages(processing: ProcessingProfile, dataset: Dataset) -> str | None:
    obis = Obis.from_text(processing.obis)
    allowed = {tariff_obis(obis, stage) for stage in (*range(1, LAST_STAGE + 1), ERROR_STAGE)}
    return _of_the_end(processing, dataset, {obis, *allowed})


def _extremes(processing: ProcessingProfile, dataset: Dataset) -> str | None:
    obis, count = Obis.from_text(processing.obis), (processing.extremes or Extremes()).count
    kinds = [extreme_obis(obis, kind) for kind in (HIGHEST, LOWEST)]
    if not {entry.obis for entry in dataset.entries} <= set(kinds):
        return "an entry of another measurand"
    if any(_many(dataset.entries, kind) > count for kind in kinds):
        return f"more than {count} extremes of one kind"
    return _on_grid(processing, _instants(dataset))


def _many(entries: tuple[RegisteredValue, ...], obis: Obis) -> int:
    return sum(entry.obis == obis for entry in entries)


def _credit(processing: ProcessingProfile, dataset: Dataset) -> str | None:
    rule = processing.prepaid
    allowed = set() if rule is None else {Obis.from_text(rule.credit_obis)}
    return _of_the_end(processing, dataset, allowed)


_FORMS: Final[dict[Form, Callable[[ProcessingProfile, Dataset], str | None]]] = {
    Form.END: _end,
    Form.STAGES: _stages,
    Form.SERIES: _series,
    Form.EXTREMES: _extremes,
    Form.CREDIT: _credit,
}
