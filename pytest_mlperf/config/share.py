"""A share of an earlier session's speed, as ``--mlperf-fail-below`` has it."""

from __future__ import annotations

from pytest_mlperf.config.option_types import parse_number

MOST_SHARE = 2.0
"""More than twice an earlier speed is a percentage that was typed for a share."""


def parse_share(text: str) -> float:
    """A share of an earlier speed; above 1 it asks for a faster one."""
    try:
        value = parse_number(text)
    except ValueError:
        value = MOST_SHARE + 1
    if value > MOST_SHARE:
        raise ValueError(
            f"a share above 0 and at most {MOST_SHARE:g}: 0.95 is 95 % of the earlier"
            " speed"
        )
    return value
