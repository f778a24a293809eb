"""tests/redis_server.py: the server the other tests lean on."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from tests.redis_server import NoServer, RedisServer


def test_it_forgets_its_data_and_keeps_its_address(redis_server: RedisServer) -> None:
    url = redis_server.url
    with redis.Redis.from_url(url) as client:
        client.set("key", "value")
    redis_server.stop()
    with pytest.raises(redis.ConnectionError), redis.Redis.from_url(url, retry=None) as client:
        client.ping()
    redis_server.start()
    with redis.Redis.from_url(url) as client:
        assert client.get("key") is None
    assert redis_server.url == url


def test_killed_it_can_be_started_again(redis_server: RedisServer) -> None:
    redis_server.kill()
    redis_server.kill()
    redis_server.start()
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.ping()


@pytest.mark.parametrize("run", [1, 2])
def test_the_shared_one_is_empty_for_every_test(redis_url: str, run: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", run)


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(NoServer, match="no-such-option"):
        RedisServer(tmp_path, "--no-such-option", "1").start()
