"""Fixtures that several test files use."""

from tests.recordings import replay

__all__ = ["replay"]
