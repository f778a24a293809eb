"""How the commands start a web server: where it listens, and from where it imports."""

from __future__ import annotations

import os
import socket
import sys

LISTEN_QUEUE = 4096  # Daphne's 50 makes a thousand clients that come at once wait for seconds


def endpoint(interface: str, port: int) -> str:
    """Return Daphne's `--endpoint`."""
    escaped = interface.replace(":", r"\:")
    return f"tcp:port={port}:backlog={LISTEN_QUEUE}:interface={escaped}"


def host(interface: str) -> str:
    """Return the host of an address that reaches a server on that interface."""
    if interface in ("127.0.0.1", "0.0.0.0", "::"):
        return "localhost"
    return f"[{interface}]" if ":" in interface else interface


def is_free(interface: str, port: int) -> bool:
    """Return whether a server may listen there."""
    try:
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Daphne does
            listener.bind((interface, port))
    except (OSError, OverflowError):
        return False
    return True


def import_path() -> dict[str, str]:
    """Return the variable with which a child imports from where this process does."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
