"""What became of one item: pytest's outcome, the verdict and the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from typing import TYPE_CHECKING
from typing import Any

from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting import junit

if TYPE_CHECKING:
    import pytest

CELL_KEY = "mlperf.cell"
"""The item's property that says what it runs, whether or not it gets a verdict."""


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one item, judged or not."""

    nodeid: str
    outcome: str
    """pytest's: ``passed``, ``failed``, ``error``, ``skipped`` …, or
    ``interrupted``."""
    cell: Mapping[str, str]
    """benchmark, target, scenario, engine, round and mode."""
    verdict: Verdict | None = None
    reason: str = ""
    """Why it was skipped, failed or errored."""
    seconds: float = 0.0

    def judged(self) -> Verdict | None:
        """Return the verdict as the table shows it; None where nothing ended.

        An item that failed for another reason than its rules never shows as VALID,
        and one that ended without a verdict shows as ERROR.
        """
        if self.outcome in ("skipped", "interrupted"):
            return None
        if self.verdict and (self.outcome == "passed" or not self.verdict.valid):
            return self.verdict
        first_line = self.reason.partition("\n")[0]
        found = f"{self.outcome}: {first_line}" if first_line else self.outcome
        check = Check("item", Status.ERROR, found, "a verdict", self.nodeid)
        if self.verdict:
            return replace(self.verdict, checks=(*self.verdict.checks, check))
        benchmark, target = self._fact("benchmark"), self.cell.get("target")
        return Verdict(
            benchmark=f"{benchmark}-{target}" if target else benchmark,
            scenario=_title(self._fact("scenario")), engine=self._fact("engine"),
            mode=self.cell.get("audit", self._fact("mode")), round=self._fact("round"),
            metric=None, checks=(check,),
        )  # fmt: skip

    def _fact(self, name: str) -> str:
        return self.cell.get(name, "?")

    def to_line(self) -> dict[str, Any]:
        """Return the record as the JSON object of its line."""
        verdict = json.loads(self.verdict.to_json()) if self.verdict else None
        return {
            "type": "verdict", "nodeid": self.nodeid, "outcome": self.outcome,
            "reason": self.reason, "seconds": round(self.seconds, 3),
            "cell": dict(self.cell), "verdict": verdict,
        }  # fmt: skip

    @classmethod
    def from_line(cls, data: Mapping[str, Any]) -> Record:
        """Read what ``to_line`` wrote; ``ValueError`` for anything else."""
        try:
            verdict = data["verdict"]
            return cls(
                nodeid=data["nodeid"], outcome=data["outcome"], cell=data["cell"],
                verdict=Verdict.from_json(json.dumps(verdict)) if verdict else None,
                reason=data["reason"], seconds=data["seconds"],
            )  # fmt: skip
        except KeyError as error:
            raise ValueError(f"no {error} in a verdict line") from None


def _title(slug: str) -> str:
    """Return the scenario's own spelling, or the text where it is none."""
    return next((s.value for s in Scenario if s.slug == slug), slug)


def record_of(
    phases: list[pytest.TestReport],
    cell_of: Callable[[str], dict[str, str]],
    *,
    ended: bool = True,
) -> Record | None:
    """Return one record of an item's phases; None for anybody else's item.

    ``cell_of`` reads the cell of a crashed worker's item out of its id: such a report
    carries no properties.
    """
    last = phases[-1]
    found = {key: value for p in phases for key, value in p.user_properties}
    text = found.get(CELL_KEY)
    cell = json.loads(str(text)) if text else {}
    if not cell and is_crash(last):
        cell = cell_of(last.nodeid)
    if not cell:
        return None
    judged = found.get(junit.KEY)
    blamed = next((p for p in phases if not p.passed), None)
    outcome = _outcome(blamed) if blamed else "passed" if ended else "interrupted"
    return Record(
        nodeid=last.nodeid,
        outcome=outcome,
        cell=cell,
        verdict=Verdict.from_json(str(judged)) if judged else None,
        reason=_reason(blamed) if blamed else "",
        seconds=sum(p.duration for p in phases),
    )


def is_crash(report: pytest.TestReport) -> bool:
    """Return whether this is xdist's report of an item that ended its worker."""
    return report.when not in ("setup", "call", "teardown")


def _outcome(blamed: pytest.TestReport) -> str:
    if hasattr(blamed, "wasxfail"):
        return "xfailed" if blamed.skipped else "xpassed"
    if blamed.skipped:
        return "skipped"
    return "failed" if blamed.when == "call" else "error"


def _reason(blamed: pytest.TestReport) -> str:
    if isinstance(blamed.longrepr, tuple):
        return blamed.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(blamed.longrepr, "reprcrash", None)
    text = str(crash.message if crash else blamed.longrepr)
    return text.removeprefix("Failed: ")
