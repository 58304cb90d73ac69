"""The outcome of a rule: passed, failed with a remedy, or in error."""

from __future__ import annotations

from typing import NamedTuple

from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status


class Outcome(NamedTuple):
    """What a rule found in a run: a check without its name."""

    ok: bool
    found: str
    required: str
    where: str
    remedy: str = ""
    waived: str = ""
    """Why a run that does not keep the rule is not held to it."""

    def check(self, name: str) -> Check:
        """Return a passed check, a waived one, or a failed one with its remedy."""
        status = Status.PASS if self.ok else Status.FAIL
        remedy = "" if self.ok else self.remedy
        if self.waived and not self.ok:
            status, remedy = Status.WAIVED, self.waived
        return Check(name, status, self.found, self.required, self.where, remedy)


def make_check(
    name: str, ok: bool, found: str, required: str, where: str, remedy: str = ""
) -> Check:
    """Return a passed check, or a failed one with its remedy."""
    return Outcome(ok, found, required, where, remedy).check(name)


def check_unreadable(name: str, error: LogError) -> Check:
    """Return a check in error from what could not be read."""
    return Check(
        name, Status.ERROR, error.found, error.required, error.where, error.remedy
    )
