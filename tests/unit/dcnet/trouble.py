"""What a hostile network and a bad power line do to one gateway: data, and nothing that does it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

HOUR_S: Final = 3600
SLOT_S: Final = 6 * HOUR_S
"""Four slots a day, so that a run of a few slots sees new epochs."""


class Fault(Enum):
    """What the network does to one message and its answer."""

    LOSE = "lose the request"
    LOSE_ANSWER = "lose the answer"
    DELAY = "deliver the request late"
    DELAY_ANSWER = "deliver the answer late"
    TWICE = "deliver the request once more, later"
    CUT = "cut the request short"
    FLIP = "flip a bit of the request"
    CUT_ANSWER = "cut the answer short"
    FLIP_ANSWER = "flip a bit of the answer"
    OLD_ANSWER = "answer with an earlier answer"
    OTHERS_ANSWER = "answer with what another member got last"
    ERROR = "answer with an error of a server"


@dataclass(frozen=True)
class Trouble:
    """Everything that happens to one gateway.

    `messages` maps the number of a message to a fault and an amount between 0 and 1; `kills` are numbers of
    await points at which the power goes, and how many seconds it stays away.
    """

    messages: Mapping[int, tuple[Fault, float]] = field(default_factory=dict)
    kills: Mapping[int, float] = field(default_factory=dict)
    ahead_s: float = 0.0
    """How wrong its clock goes."""


CALM: Final = Trouble()


def storm(source: random.Random, rate: float, kills: int, horizon: int = 600) -> Trouble:
    """Trouble of every kind at a rate."""
    faults = list(Fault)
    return Trouble(
        {n: (source.choice(faults), source.random()) for n in range(horizon) if source.random() < rate},
        {source.randrange(400): source.uniform(1, 2 * SLOT_S) for _ in range(kills)},
        source.uniform(-300, 300),
    )


def spoilt(body: bytes, fault: Fault | None, amount: float) -> bytes:
    """Cut a body short, or flip one bit of it."""
    if not body or fault not in (Fault.CUT, Fault.FLIP):
        return body
    if fault is Fault.CUT:
        return body[: int(amount * len(body))]
    at = int(amount * 8 * len(body)) % (8 * len(body))
    return body[: at // 8] + bytes([body[at // 8] ^ 1 << at % 8]) + body[at // 8 + 1 :]
