"""Bybit's side: the worker that holds the connections and publishes what comes."""
