"""Numbers as people read them."""

from __future__ import annotations


def format_number(value: float | None) -> str:
    """Return a number as people read it: five digits at most, thousands apart."""
    if value is None:
        return ""
    size = abs(value)
    digits = next((n for n in range(4) if size * 10**n >= 1000), 4)
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
