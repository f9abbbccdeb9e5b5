"""The one place that configures the standard library's logging: for operators, not one of the legal logs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

ROOT: Final = "smgw"
INSECURE_SMALL_NET: Final = "INSECURE small net"
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class LineFormatter(logging.Formatter):
    """One line a record: UTC, level, logger, an prefix by logger, message. Control characters are shown.

    A traceback is reduced to the class of its error and the place that raised it: the source lines and
    values around it are nobody's business in a log.
    """

    def __init__(self, prefixes: Mapping[str, str]) -> None:
        super().__init__()
        self._prefixes = dict(prefixes)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        message = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            message += f" [{record.exc_info[0].__name__}{self._place(record)}]"
        prefix = self._prefix(record.name)
        line = f"{at}Z {record.levelname:<7} {record.name} {prefix}{message}"
        return "".join(character if character.isprintable() else repr(character)[1:-1] for character in line)

    def _prefix(self, name: str) -> str:
        """Return the prefix of the nearest logger above `name` that has one."""
        while name:
            if name in self._prefixes:
                return f"[{self._prefixes[name]}] "
            name = name.rpartition(".")[0]
        return ""

    @staticmethod
    def _place(record: logging.LogRecord) -> str:
        trace = record.exc_info[2] if record.exc_info else None
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        return (
            f" at {trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}" if trace is not None else ""
        )


def configure(
    level: str = "info", *, stream: TextIO | None = None, prefixes: Mapping[str, str] | None = None
) -> logging.Logger:
    """Send the gateway's diagnostics to `stream` (default: standard error); each call replaces the last.

    Args:
        level: debug, info, warning or error.
        stream: where lines go.
        prefixes: logger name -> text before each of its lines and of those below it, e.g.
            `{"smgw.dcnet": INSECURE_SMALL_NET}`.

    Returns:
        The logger "smgw", above all of the gateway's.

    Raises:
        ValueError: no such level.
    """
    if level not in _LEVELS:
        raise ValueError(f"a level is one of {', '.join(_LEVELS)}")
    logger = logging.getLogger(ROOT)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(LineFormatter(prefixes or {}))
    logger.addHandler(handler)
    logger.setLevel(_LEVELS[level])
    logger.propagate = False
    return logger


def prefixed(logger: logging.Logger, prefix: str) -> logging.LoggerAdapter[logging.Logger]:
    """Return `logger` with `prefix` before each message: for one net or one gateway among several."""
    return _Prefixed(logger, {"prefix": prefix})


class _Prefixed(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        assert self.extra is not None
        return f"[{self.extra['prefix']}] {msg}", kwargs
