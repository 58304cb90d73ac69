"""The error of a run that cannot be started."""

from __future__ import annotations


class RunRefused(Exception):
    """A run that cannot be started as asked; the text says why and what to change."""
