"""The emulated receivers by the kind that the configuration calls them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tools.counterparts.stick_amb8465 import VirtualAmb8465
from tools.counterparts.stick_cul import VirtualCul
from tools.counterparts.stick_im871a import VirtualStick
from tools.counterparts.stick_iu891a import VirtualIu891a
from tools.counterparts.stick_pty import PtyStick
from tools.counterparts.stick_rc1180 import VirtualRc1180
from tools.counterparts.stick_rtl import PipeReceiver, VirtualRtl433, VirtualRtlWmbus

EMULATED: Final[dict[str, Callable[[Path], PtyStick | PipeReceiver]]] = {
    "im871a": VirtualStick,
    "iu891a": VirtualIu891a,
    "amb8465": VirtualAmb8465,
    "cul": VirtualCul,
    "rc1180": VirtualRc1180,
    "rtl_wmbus": VirtualRtlWmbus,
    "rtl_433": VirtualRtl433,
}
