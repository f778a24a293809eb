"""The log, as `RELAY_LOG_FORMAT` asks: with `json` whatever a process says is one object a line.

Loggers are configured as usual. What would go past them, to standard error or output, is led
into them: Daphne's access lines, warnings, and exceptions that nobody catches.
"""

from __future__ import annotations

import logging
import logging.config
import sys
import threading
from types import TracebackType
from typing import Any

from daphne.access import AccessLogGenerator

logger = logging.getLogger(__name__)
access_logger = logging.getLogger("daphne.access")


def configure(config: dict[str, Any]) -> None:
    """Set up the log; Django calls it with `LOGGING`, once, in every process."""
    logging.config.dictConfig(config)
    if config["handlers"]["console"]["formatter"] == "json":
        _lead_everything_here()


class NoHints(logging.Filter):
    """Leaves out what Daphne says of itself at each start and nobody can act on."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is worth a line."""
        return not record.getMessage().startswith(
            ("HTTP/2 support not enabled", "Configuring endpoint", "Starting server at")
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


def _log_access(generator: Any, protocol: str, action: str, details: dict[str, Any]) -> None:
    """Log one request; standard output, where Daphne writes them, would mix with the log."""
    is_end = (protocol, action) == ("http", "complete")
    if is_end or protocol == "websocket":
        fields = {name: details.get(name) for name in ("client", "path", "status", "size")}
        what = details["method"] if is_end else f"websocket {action}"
        known = {name: value for name, value in fields.items() if value is not None}
        access_logger.info("%s %s", what, details["path"], extra=known)
