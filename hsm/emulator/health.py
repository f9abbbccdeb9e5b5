"""The two health tests of NIST SP 800-90B 4.4 over everything an entropy source ever delivers.

They run at start over 1024 samples that are thrown away, and on every byte after that; state goes on from one
draw to the next. A byte is one sample; four bits of min-entropy a byte are claimed, which is modest for the
kernel's generator; a false alarm has probability 2**-20 a sample or window. A window is longer than what is
drawn for one reseed, so each such input is looked at by itself as well.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from hsm.errors import ModuleFailed

START_SAMPLES: Final = 1024
REPETITION_CUTOFF: Final = 6  # 1 + 20 / 4
WINDOW: Final = 512
PROPORTION_CUTOFF: Final = 62  # 1 + critbinom(512, 2**-4, 1 - 2**-20)
INPUT_BYTES: Final = 64
INPUT_CUTOFF: Final = 20  # of any one value in an input of up to 64 samples: below 2**-20, too


class HealthTests:
    """Repetition count test and adaptive proportion test of one source; the first failure is final."""

    def __init__(self) -> None:
        self._last = -1
        self._run = 0
        self._reference = -1
        self._seen = 0
        self._alike = 0
        self._failed = False

    def check(self, samples: bytes) -> None:
        """Take samples in.

        Raises:
            ModuleFailed: a test failed, now or earlier.
        """
        for sample in samples:
            self._run = self._run + 1 if sample == self._last else 1
            self._last = sample
            if self._seen == 0:
                self._reference, self._alike = sample, 0
            self._alike += sample == self._reference
            self._seen = (self._seen + 1) % WINDOW
            if self._run >= REPETITION_CUTOFF or self._alike >= PROPORTION_CUTOFF:
                self._failed = True
        if samples and len(samples) <= INPUT_BYTES and max(Counter(samples).values()) >= INPUT_CUTOFF:
            self._failed = True
        if self._failed:
            raise ModuleFailed("the entropy source failed its health test")
