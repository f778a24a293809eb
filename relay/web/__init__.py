"""One web process: its parts, its consumers, its metrics and its readiness."""
