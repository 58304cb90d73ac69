"""Types of arguments that several commands have."""

from __future__ import annotations

import argparse

from pytest_mlperf.core import rounds


def parse_round(text: str) -> str:
    """Return a round's name; ``6.1`` is v6.1."""
    name = text if text.startswith("v") else f"v{text}"
    try:
        return rounds.get(name).name
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
