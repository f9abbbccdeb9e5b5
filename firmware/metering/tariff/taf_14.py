"""TAF 14, high-frequency values for added services, while the consumer consents; not kept. Pure.

Worked example: a registration period and cycle of 60 s gives one value a minute, the last one not after the
consent ends.
"""

from __future__ import annotations

from firmware.metering.tariff import series

evaluate = series.evaluate
