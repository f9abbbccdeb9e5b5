"""Kinds of fields that profiles are made of. No I/O."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

Name = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-z0-9][a-z0-9._-]{0,62}\Z",
        description="a name of lower-case letters, digits, '.', '_' and '-', at most 63",
    ),
]
"""Of a profile, a consumer or a peer: fits into URLs, file names and log lines."""
MeterText = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Z]{3}-[0-9a-f]{8}-[0-9a-f]{2}-[0-9a-f]{2}\Z",
        description="a meter id in lower-case digits such as ELS-12345678-33-03",
    ),
]
"""As `lmn.model.MeterId` writes it, e.g. "ELS-12345678-33-03"."""
ObisText = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[0-9]{1,3}-[0-9]{1,3}:[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(\*[0-9]{1,3})?\Z",
        description="an OBIS code such as 1-0:1.8.0",
    ),
]
Utc = Annotated[
    datetime, msgspec.Meta(tz=True, description="an instant with its time zone, such as 2026-01-01T00:00:00Z")
]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=366 * 86400)]
Pem = Annotated[str, msgspec.Meta(min_length=1, max_length=16384)]
"""A certificate as PEM text. In a TOML file also the path of one, relative to that file; `codec` puts the
text in."""
UsagePoint = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Z]{2}[0-9]{11}[0-9A-Z]{20}\Z",
        description="a usage point of 33 characters: country, 11 digits, 20 digits or capital letters",
    ),
]
"""Zählpunktbezeichnung, by which market participants know where is measured."""
Title = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[0-9A-Za-z][0-9A-Za-z ._/-]{0,63}\Z",
        description="letters, digits, blanks and . _ / -, at most 64",
    ),
]
DecimalText = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^-?[0-9]{1,13}(\.[0-9]{1,6})?\Z",
        description="a decimal number as text such as 207.5, at most 13 + 6 digits",
    ),
]
