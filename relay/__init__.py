"""Relays Bybit's public market data from one upstream connection to many WebSocket clients."""
