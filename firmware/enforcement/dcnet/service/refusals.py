"""What a signed object can be refused with: the object is dropped, the service goes on."""

from __future__ import annotations

from typing import Final

from firmware.enforcement.dcnet.errors import DcNetError
from hsm.errors import CertificateRefused
from wan.errors import WanError

REFUSED: Final = (WanError, CertificateRefused, DcNetError)
