"""Work that goes on until it is cancelled, whatever happens to the channel layer."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from redis.exceptions import RedisError

from relay.lib import timing
from relay.lib.pacing import Backoff

logger = logging.getLogger(__name__)

STEADY = 10.0  # seconds after which a step that fails is logged again
LAYER_FAULTS = (RedisError, OSError, TimeoutError)


async def run_forever(step: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    """Run a step that never ends by itself, and again when it failed.

    The layer may have a new connection in no time, so the first pause is short; while it is away
    pauses grow to `timing.LAYER_RETRY_CEILING`.

    A channel layer that is away is told in one line, once until the step has run for a while;
    any other failure is a fault of the program, told each time and in full.
    """
    loop = asyncio.get_running_loop()
    backoff = Backoff(timing.LAYER_FIRST_RETRY, timing.LAYER_RETRY_CEILING)
    is_told = False
    while True:
        started = loop.time()
        try:
            await step()
        except LAYER_FAULTS as fault:
            if loop.time() - started > STEADY:
                is_told = False
            if not is_told:
                words = str(fault) or type(fault).__name__
                logger.warning("%s: the channel layer fails (%s); trying again", name, words)
            is_told = True
        except Exception:
            logger.exception("%s failed; trying again", name)
        if loop.time() - started > timing.LAYER_RETRY_CEILING:
            backoff.reset()
        await asyncio.sleep(backoff.next(random.random()))


async def cancel_all(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended, whatever they raise.

    Once is not enough: a client of Redis whose time-out coincides takes the cancel for its own.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=timing.CANCEL_INTERVAL)
    await asyncio.gather(*tasks, return_exceptions=True)
