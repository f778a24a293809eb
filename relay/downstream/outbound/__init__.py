"""How bytes leave for one client.

What is imported here knows no server; `choice` knows them all.
"""

from relay.downstream.outbound.base import Outbound, Peer

__all__ = ["Outbound", "Peer"]
