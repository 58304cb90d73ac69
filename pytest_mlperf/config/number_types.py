"""What numbers of a deployment's options mean: 0 is one of them."""

from __future__ import annotations

from pytest_mlperf.config.option_types import parse_whole


def parse_count(text: str) -> int:
    """A whole number, 0 too."""
    return 0 if text.strip() == "0" else parse_whole(text)


def parse_fraction(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError("a number from 0 to 1")
    return value


def parse_flag(text: str) -> bool:
    """0 or 1, as the scripts write it; true and false as config.pbtxt does."""
    words = {"0": False, "1": True, "false": False, "true": True}
    if text.lower() not in words:
        raise ValueError("0 or 1")
    return words[text.lower()]
