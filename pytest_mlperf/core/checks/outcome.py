"""How a check comes out: passed, failed with a remedy, or in error."""

from __future__ import annotations

from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status


def make_check(
    name: str, ok: bool, found: str, required: str, where: str, remedy: str = ""
) -> Check:
    """Return a passed check, or a failed one with its remedy."""
    if ok:
        return Check(name, Status.PASS, found, required, where)
    return Check(name, Status.FAIL, found, required, where, remedy)


def check_unreadable(name: str, error: LogError) -> Check:
    """Return a check in error from what could not be read."""
    return Check(
        name, Status.ERROR, error.found, error.required, error.where, error.remedy
    )
