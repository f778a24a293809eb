"""relay/web/siblings.py: several web processes of one server, without Redis between them."""

from __future__ import annotations

from tests.e2e.conftest import exchange, programs
from tests.e2e.stand_in import StandIn
from tests.processes import PATIENCE, Programs, until

__all__ = ["exchange", "programs"]

WORDS = "Another web process of this server relays"


async def test_workers_that_cannot_meet_are_warned_of(
    programs: Programs, exchange: StandIn, redis_url: str
) -> None:
    alone = await programs.uvicorn(exchange.url)
    both = await programs.uvicorn(exchange.url + "/x", "--workers", "2")
    await until(lambda: WORDS in both.program.output, PATIENCE, "a warning")
    assert both.program.output.count(WORDS) == 1
    over_redis = await programs.uvicorn(exchange.url, "--workers", "2", REDIS_URL=redis_url)
    ready = "Application startup complete"
    await until(lambda: over_redis.program.output.count(ready) == 2, PATIENCE, "both workers")
    assert WORDS not in alone.program.output + over_redis.program.output
