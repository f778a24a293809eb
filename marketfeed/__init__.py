"""The Django project around the relay: settings, addresses and the ASGI entry point."""

__version__ = "0.2.0"
