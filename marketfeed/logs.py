"""The log, as `RELAY_LOG_FORMAT` asks: with `json` whatever a process says is one object a line.

Loggers are configured as usual. What would go past them, to standard error or output, is led
into them: Daphne's access lines, warnings, and exceptions that nothing catches.

With `text` an entry is one line, and below it only what Python itself writes in a traceback
begins at the margin. So the words that are logged, be they of a client, a proxy or the exchange,
can neither look like an entry nor command a terminal.
"""

from __future__ import annotations

import logging
import logging.config
import re
import sys
import threading
import traceback
from types import TracebackType
from typing import Any

from daphne.access import AccessLogGenerator

logger = logging.getLogger(__name__)
access_logger = logging.getLogger("daphne.access")


def configure(config: dict[str, Any]) -> None:
    """Set up the log; Django calls it with `LOGGING`, once, in every process."""
    logging.config.dictConfig(config)
    AccessLogGenerator.write_entry = _write_access
    if config["handlers"]["console"]["formatter"] == "json":
        _lead_everything_here()


def printable(text: str) -> str:
    """Return a text in which everything that does not print is escaped."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


class OneLine(logging.Formatter):
    """Writes each entry as one line, and the words of exceptions below it indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        """Return a traceback; of an exception's words only the first line is at the margin."""
        lines = []
        for part in traceback.format_exception(*ei):
            if part in _HEADINGS:
                lines.append(part.removesuffix("\n"))
                continue
            first, *rest = map(printable, part.removesuffix("\n").split("\n"))
            lines.append(first if _TYPE.match(first) else f"  {first}")
            lines += [line if line.startswith(" ") else f"  {line}" for line in rest]
        return "\n".join(lines)


_HEADINGS = (
    "Traceback (most recent call last):\n",
    "\nThe above exception was the direct cause of the following exception:\n\n",
    "\nDuring handling of the above exception, another exception occurred:\n\n",
)
_TYPE = re.compile(r"[A-Za-z_][\w.<>]*(:|$)| ")  # of an exception; or a line that is indented


class NoHints(logging.Filter):
    """Leaves out what Daphne says of itself at each start and stop: nothing to act on."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is worth a line."""
        return not record.getMessage().startswith(
            (
                "HTTP/2 support not enabled",
                "Configuring endpoint",
                "Starting server at",
                "Killed 0 ",
            )
        )


def _lead_everything_here() -> None:
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )
    sys.unraisablehook = lambda args: _uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )
    AccessLogGenerator.__call__ = _log_access
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):  # have handlers of their own
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logger.critical("uncaught %s: %s", kind.__name__, error, exc_info=(kind, error, trace))


_write_entry = AccessLogGenerator.write_entry


def _write_access(generator: Any, host: str, date: Any, request: str, **rest: Any) -> None:
    """Write one of Daphne's own access lines."""
    _write_entry(generator, printable(str(host)), date, printable(request), **rest)


def _log_access(generator: Any, protocol: str, action: str, details: dict[str, Any]) -> None:
    """Log one request; standard output, where Daphne writes them, would mix with the log."""
    is_end = (protocol, action) == ("http", "complete")
    if is_end or protocol == "websocket":
        fields = {name: details.get(name) for name in ("client", "path", "status", "size")}
        what = details["method"] if is_end else f"websocket {action}"
        known = {name: value for name, value in fields.items() if value is not None}
        access_logger.info("%s %s", what, details["path"], extra=known)
