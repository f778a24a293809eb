"""The same processes and the same exchange as in the end-to-end tests."""

from tests.e2e.conftest import exchange, programs

__all__ = ["exchange", "programs"]
