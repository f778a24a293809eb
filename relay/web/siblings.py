"""Notice several web processes of one server where there is no Redis on which they could meet.

Without `REDIS_URL` each process is a whole relay. Two of them, as `uvicorn --workers 2` starts,
open two connections to the exchange for each category, and neither knows the other's clients.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import tempfile
from pathlib import Path

logger = logging.getLogger(__name__)

_locks: list[int] = []  # at most one open file; the kernel unlocks it when the process ends


def warn_of_siblings(upstream_url: str, prefix: str) -> None:
    """Log a warning if a process of the same parent relays the same exchange already.

    Relays of different prefixes are no siblings.

    The first one holds a lock on a file in the temporary folder, whose name is made of the parent
    and the exchange. Where no such file can be made, nothing is noticed.
    """
    if _locks:
        return
    words = f"{os.getuid()} {os.getppid()} {upstream_url} {prefix}"
    key = hashlib.sha256(words.encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"marketfeed-{key}.lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return
    _locks.append(lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        logger.warning(
            "Another web process of this server relays %s as well, and there is no REDIS_URL on "
            "which the two could meet: each opens its own connections to the exchange and counts "
            "its own clients. Set REDIS_URL and start run_upstream, or start one process.",
            upstream_url,
        )
