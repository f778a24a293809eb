"""The wheel: what is in it, and that it works far from a checkout."""
