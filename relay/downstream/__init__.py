"""The clients' side: the hub, sessions and the ways out."""
