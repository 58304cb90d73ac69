"""What a run is refused for."""

from __future__ import annotations


class RunRefused(Exception):
    """A run that cannot be started as asked; the text says why and what to change."""
