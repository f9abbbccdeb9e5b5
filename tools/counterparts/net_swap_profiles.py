"""The order by which a home changes its net at a boundary: a change of supplier, to the same one. Pure."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

import msgspec

from firmware.enforcement.determination import conflicts, grids
from firmware.profile.check import check
from firmware.profile.model import CommunicationProfile, NetPolicy, ProcessingProfile, ProfileSet
from wan.errors import OrderRefused

_SUFFIX: Final = re.compile(r"\.e[0-9]+\Z")
_LONGEST: Final = 48


def swapped(
    profiles: ProfileSet, net: str, target: NetPolicy, boundary: datetime, epoch: int, ended_by: datetime
) -> ProfileSet:
    """Return the set with which a home is in `net` until the boundary and in the target net from it on.

    Args:
        profiles: as ordered so far.
        net: net id, hex, that it leaves.
        target: policy of the net it comes to.
        boundary: the first slot of the epoch in the target net begins then.
        epoch: that epoch; makes the new profiles' names.
        ended_by: what was concealed in a net until this instant or earlier is not taken along: its slots
            are through, and a gateway has places for four nets.

    Raises:
        OrderRefused: `home`, with the reason why this home cannot change.
    """
    leaving = next((one for one in profiles.communication if _in(one, net)), None)
    processing = None if leaving is None else profiles.processing_of(leaving)
    if leaving is None or processing is None:
        raise OrderRefused("home", f"not in net {net}")
    if processing.valid_from >= boundary or (processing.valid_until or boundary) < boundary:
        raise OrderRefused("home", "its profile does not hold at the boundary")
    if processing.valid_until == boundary:
        raise OrderRefused("home", "its profile ends with the boundary already")
    if sum(one.processing == processing.id for one in profiles.communication) > 1:
        raise OrderRefused("home", "what is measured for the net goes elsewhere as well")
    over = [one for one in profiles.communication if _over(profiles, one, ended_by)]
    kept = [one for one in profiles.communication if one not in over]
    needless = {one.processing for one in over} - {one.processing for one in kept}
    name = f"{_SUFFIX.sub('', processing.id)[:_LONGEST]}.e{epoch}"
    entering = msgspec.structs.replace(
        leaving,
        id=f"{_SUFFIX.sub('', leaving.id)[:_LONGEST]}.e{epoch}",
        processing=name,
        net=target,
    )
    made = msgspec.structs.replace(
        profiles,
        processing=(
            *(_ending(one, processing, boundary) for one in profiles.processing if one.id not in needless),
            msgspec.structs.replace(processing, id=name, valid_from=boundary),
        ),
        communication=(*kept, entering),
    )
    if problems := check(made, small_nets_allowed=True):
        raise OrderRefused("home", str(problems[0]))
    if undone := conflicts(grids(made)):
        raise OrderRefused("home", str(undone[0]))  # the gateway would refuse the order
    return made


def enters(profiles: ProfileSet, net: str, boundary: datetime) -> bool:
    """Tell whether a set has its home come to `net` at a boundary."""
    for one in profiles.communication:
        processing = profiles.processing_of(one)
        if _in(one, net) and processing is not None and processing.valid_from == boundary:
            return True
    return False


def _in(profile: CommunicationProfile, net: str) -> bool:
    return profile.net is not None and profile.net.net_id == net


def _over(profiles: ProfileSet, profile: CommunicationProfile, ended_by: datetime) -> bool:
    processing = profiles.processing_of(profile)
    until = None if processing is None else processing.valid_until
    return profile.net is not None and until is not None and until <= ended_by


def _ending(one: ProcessingProfile, which: ProcessingProfile, boundary: datetime) -> ProcessingProfile:
    return msgspec.structs.replace(one, valid_until=boundary) if one.id == which.id else one
