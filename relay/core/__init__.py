"""The decisions, without I/O: bytes and time go in, values come out."""
