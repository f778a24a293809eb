"""marketfeed/logs.py: nobody whose words are logged can write an entry."""

from __future__ import annotations

import io
import logging
import logging.config
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from daphne.access import AccessLogGenerator
from django.conf import settings

from marketfeed import logs

FORGED = "\n2026-11-29 00:00:00,000 ERROR   relay.upstream: the exchange pays everybody"
BREAKS = ("\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\x1b[2J", "\udcff", "\0")
BEGINNING = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING|ERROR) ")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the project's own handler writes, of a logger of this test's own."""
    stream = io.StringIO()
    config: Any = {"version": 1, "formatters": {"text": settings.LOGGING["formatters"]["text"]}}
    config |= {
        "disable_existing_loggers": False,
        "handlers": {
            "console": settings.LOGGING["handlers"]["console"]
            | {"formatter": "text", "stream": stream}
        },
        "loggers": {"forged": {"handlers": ["console"], "level": "INFO", "propagate": False}},
    }
    logging.config.dictConfig(config)
    yield stream
    logging.getLogger("forged").handlers.clear()


@pytest.mark.parametrize("words", [FORGED, *BREAKS], ids=ascii)
@pytest.mark.parametrize("way", ["message", "argument", "exception"])
def test_nothing_but_an_entry_looks_like_one(written: io.StringIO, words: str, way: str) -> None:
    # Not with pytest's own handler: a report of its cannot carry every one of these words.
    logger = logging.Logger("forged")
    console = (h for h in logging.getLogger("forged").handlers if vars(h).get("stream") is written)
    logger.addHandler(next(console))
    match way:
        case "message":
            logger.warning(f"a frame: {words}{FORGED}")
        case "argument":
            logger.warning("a frame: %s", words + FORGED)
        case "exception":
            try:
                try:
                    raise ValueError(words + FORGED)
                except ValueError as fault:
                    fault.add_note(FORGED[1:])
                    raise KeyError(words) from fault
            except KeyError:
                logger.exception("could not be read")
    first, *rest = written.getvalue().removesuffix("\n").split("\n")
    assert BEGINNING.match(first)
    assert not any(BEGINNING.match(line) for line in rest)
    assert all(line.isprintable() for line in (first, *rest))
    assert "the exchange pays everybody" in written.getvalue()
    if way == "exception":
        assert rest[0] == "Traceback (most recent call last):"
        assert [line.partition(":")[0] for line in rest if line.startswith(("Val", "Key"))] == [
            "ValueError",
            "KeyError",
        ]


def test_so_it_is_with_daphne_s_access_lines() -> None:
    assert logs.AccessLogGenerator is AccessLogGenerator  # is changed where Django sets up the log
    stream = io.StringIO()
    write = AccessLogGenerator(stream)
    write(
        "http",
        "complete",
        {
            "client": "1.2.3.4\x1b[2J:5",
            "method": "GET",
            "path": "/\x1b[2J\n",
            "status": 200,
            "size": 1,
        },
    )
    line = stream.getvalue().removesuffix("\n")
    assert line.isprintable()
    assert f"{datetime.now():%Y}" in line  # noqa: DTZ005 - as Daphne writes it
