"""A Bybit look-alike on the loopback interface: seeded market, faults on demand, replay."""
