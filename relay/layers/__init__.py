"""The channel layers: of a single process, and of several that meet on Redis."""
