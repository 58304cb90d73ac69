"""What a comparison with an earlier session means to pytest."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import pytest

from pytest_mlperf.config.contradictions import OFFICIAL
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.plugin.usage_errors import as_usage_errors
from pytest_mlperf.reporting.flat import format_labels

if TYPE_CHECKING:
    from pytest_mlperf.core.comparison import CellComparison
    from pytest_mlperf.measure.baseline import Baseline
    from pytest_mlperf.measure.session import MeasureSession
    from pytest_mlperf.plugin.report import SessionReport

INCONCLUSIVE = 8
"""Exit status of a good session with --mlperf-fail-below, of whose cells one has no
answer: it ran beside other programs, or cannot be compared."""


@dataclass(slots=True)
class SessionComparison:
    """The session that --mlperf-compare names, if it does, and the name under which
    --mlperf-save keeps this one.
    """

    options: Options
    _baseline: Baseline | None = None

    def find_baseline(self, own: Path) -> Baseline | None:
        """Return it; ``own`` is the reports folder of the session at hand.

        Raises ``UsageError`` where there is none.
        """
        wanted = self.options.compare
        if wanted and wanted != OFFICIAL and self._baseline is None:
            from pytest_mlperf.measure.baseline import Baseline

            with as_usage_errors():
                self._baseline = Baseline.read(wanted, own)
        return self._baseline

    def describe(self, own: Path, header: Mapping[str, Any]) -> Iterator[str]:
        """Yield the header's notes: where and of what the session is, and beside which.

        ``header``: the first line of results.jsonl.
        """
        commit, dash, change = (header["commit"] or "").partition("-")
        shown = f", commit {commit[:12]}{dash}{change}" if commit else ""
        yield f"host {header['host']}{shown}"
        if baseline := self.find_baseline(own):
            yield f"compared with {baseline.describe()}"
        if self.options.label:
            yield f"labels {format_labels(self.options.label)}"

    def close(self, report: SessionReport, exitstatus: int) -> int:
        """Compare the session's cells, save it, and return the exit status."""
        if self.options.compare == OFFICIAL:
            report.compare_official()
        if self.options.save:
            report.save(self.options.save)
        if self._baseline is None:
            return exitstatus
        found = report.compare(self._baseline)
        unanswered = [one for one in found if not one.has_answer]
        if not self.options.fail_below or not unanswered:
            return exitstatus
        report.add_note(describe_unanswered(unanswered, len(found)))
        return exitstatus or INCONCLUSIVE


def describe_unanswered(unanswered: Sequence[CellComparison], cells: int) -> str:
    """Return why a gate says neither yes nor no; all items may have passed."""
    first = unanswered[0]
    verb = "has" if len(unanswered) == 1 else "have"
    return (
        f"mlperf: --mlperf-fail-below: {len(unanswered)} of {cells} "
        f"cell{'s' * (cells > 1)} {verb} no answer, which ends a session that passed "
        f"with {INCONCLUSIVE}; {first.name}: {first.why}: run again, beside nothing "
        "else, or name a session that measured the same"
    )


def refuse_slower(session: MeasureSession, verdict: Verdict) -> None:
    """Fail the item of a performance run that --mlperf-fail-below does not allow."""
    least = session.options.fail_below
    if not (least and session.baseline) or verdict.mode != Mode.PERFORMANCE.value:
        return
    found = session.baseline.compare(verdict)
    if found.is_below(least):
        raise pytest.fail.Exception(
            f"{found}; it should be at least {least:g} of {session.baseline.shown} "
            "(--mlperf-fail-below): look for what changed since, or run both again",
            pytrace=False,
        )
