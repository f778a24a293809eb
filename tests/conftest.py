"""What tests of every kind share: servers of their own and processes that do not outlive them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.redis_server import RedisServer

# pytest explains the failed assertions of these modules as it does those of test modules.
pytest.register_assert_rewrite("tests.e2e.steps", "tests.e2e.scrapes")

# Hypothesis searches as long as it takes, and says how to repeat what it found.
settings.register_profile("marketfeed", deadline=None, print_blob=True)
settings.load_profile("marketfeed")


# What starts a process, by the names under which test modules and their fixtures know it.
STARTERS = frozenset(
    {
        *("subprocess", "run", "House", "opened", "Programs", "RedisServer", "Chromium"),
        *("Terminal", "Installation"),
    }
)
STARTING_FIXTURES = frozenset({"programs", "redis_url", "redis_server", "chromium", "relay"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that may start a process; `make quick` leaves them out."""
    for item in items:
        assert isinstance(item, pytest.Function)
        if STARTERS & vars(item.module).keys() or STARTING_FIXTURES & set(item.fixturenames):
            item.add_marker("process")


@pytest.fixture(scope="session")
def _session_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(_session_redis: RedisServer) -> str:
    """The address of an empty Redis that all tests share, one at a time."""
    _session_redis.flush()
    return _session_redis.url


@pytest.fixture
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A started Redis of this test's own, to be stopped, killed and started again."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server
