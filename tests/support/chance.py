"""Chance that differs from run to run and can be had again: a failure prints what to set for the next run."""

from __future__ import annotations

import os
import random

SEED = "SMGW_SEED"


def seed() -> int:
    """Return a number to draw from, the one of the environment if there is one.

    It is printed, so that the report of a failure says how to draw the same again. What a process does
    between two kills is its own matter and the machine's: the draws are the same, not every moment.
    """
    number = int(os.environ.get(SEED) or random.SystemRandom().getrandbits(32))
    print(f"the same draws again: {SEED}={number}")
    return number
