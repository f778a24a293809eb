"""The Django project around the relay: settings, addresses and the ASGI entry point."""
