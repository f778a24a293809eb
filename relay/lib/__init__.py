"""Helpers that know nothing of the relay: pacing, tasks, the clock."""
