"""TAF 13, consumer visualisation: value sets for a portal, while the consumer consents. Pure.

Worked example: a cycle of 3600 s over a registration period of 900 s gives four values each hour, the last
one with the hour in which the consent ends.
"""

from __future__ import annotations

from firmware.metering.tariff import series

evaluate = series.evaluate
