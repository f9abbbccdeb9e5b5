"""TAF 7, interval series: the registered values of each period. Pure.

Worked example: period 900 s, delivery period 1 h from 00:00 on gives the values of 00:15, 00:30, 00:45 and
01:00.
"""

from __future__ import annotations

from firmware.metering.tariff import series

evaluate = series.evaluate
