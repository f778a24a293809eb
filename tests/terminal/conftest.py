"""What the tests of the terminal share: the project's processes and an exchange led by hand."""

from tests.e2e.conftest import exchange, programs

__all__ = ["exchange", "programs"]
