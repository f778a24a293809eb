"""What the tests of the clients' side share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from relay.bybit.requests import Endpoint
from tests.downstream.outbound.lines import Line
from tests.downstream.readers import RecordingReader
from tests.downstream.town import Town


@pytest.fixture
def town() -> Town:
    return Town()


@pytest.fixture
def reader() -> RecordingReader:
    return RecordingReader()


@pytest.fixture
def make_line() -> Iterator[Callable[..., Line]]:
    lines: list[Line] = []

    def make(endpoint: Endpoint = Endpoint.NATIVE, **options: bool) -> Line:
        lines.append(Line(endpoint, **options))
        return lines[-1]

    yield make
    for line in lines:
        line.outbound.detach()
        line.transport.abortConnection()
        line.theirs.close()
