"""Everything that knows Bybit, without I/O: topics, frames, state by its rules, its dialect."""
