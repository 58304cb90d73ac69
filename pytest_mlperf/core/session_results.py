"""What became of a session and of each of its items; the value every reporter gets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from typing import Any

from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

SET_UP = "set up"
"""Outcome of an item whose fixtures alone were asked for (``--setup-only``)."""

INTERRUPTED = "interrupted"
"""Outcome of an item that began and did not end."""


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one item, judged or not."""

    nodeid: str
    outcome: str
    """pytest's: ``passed``, ``failed``, ``error``, ``skipped`` …, or ``SET_UP`` or
    ``INTERRUPTED``."""
    cell: Mapping[str, str]
    """benchmark, target, scenario, engine, round and mode."""
    verdict: Verdict | None = None
    reason: str = ""
    """Why it was skipped, failed or errored."""
    seconds: float = 0.0

    @property
    def is_measured(self) -> bool:
        """True where the item has a verdict, or timed a bare engine to its end."""
        is_bare = self.cell.get("mode") == Mode.BARE.value
        return self.verdict is not None or (is_bare and self.outcome == "passed")

    def verdict_to_show(self) -> Verdict | None:
        """Return the verdict as reports show it; None for an item that did not end.

        An item that failed for another reason than its rules never shows as VALID: it
        is INVALID by what its own test asserts, and ERROR where set-up or teardown
        broke, or where it ended without a verdict.
        """
        if self.outcome in ("skipped", INTERRUPTED, SET_UP):
            return None
        if self.outcome == "passed" and self.cell.get("mode") == Mode.BARE.value:
            return None  # no rule judges it
        if self.verdict and (self.outcome == "passed" or not self.verdict.valid):
            return self.verdict
        first_line = self.reason.partition("\n")[0]
        found = f"{self.outcome}: {first_line}" if first_line else self.outcome
        check = Check("item", Status.ERROR, found, "a verdict", self.nodeid)
        if self.verdict:
            if self.outcome == "failed":
                asked = "what the test itself asserts"
                check = Check("test", Status.FAIL, first_line, asked, self.nodeid)
            return replace(self.verdict, checks=(*self.verdict.checks, check))
        benchmark, scenario, engine = self.row
        return Verdict(
            benchmark=benchmark,
            scenario=scenario,
            engine=engine,
            mode=self.cell.get("audit", self._cell_value("mode")),
            round=self._cell_value("round"),
            metric=None,
            checks=(check,),
        )

    def verdict_to_compare(self) -> Verdict | None:
        """Return the verdict as comparisons take it: by MLPerf's rules alone.

        What a test asserts beside them (``--mlperf-fail-below`` among it) takes nothing
        from the figure that the run has.
        """
        has_judged = self.outcome == "failed" and self.verdict
        return self.verdict if has_judged else self.verdict_to_show()

    @property
    def row(self) -> tuple[str, str, str]:
        """Benchmark with its target, scenario and engine, as verdicts name them."""
        benchmark, target = self._cell_value("benchmark"), self.cell.get("target")
        slug = self._cell_value("scenario")
        return (
            f"{benchmark}-{target}" if target else benchmark,
            next((s.value for s in Scenario if s.slug == slug), slug),
            self._cell_value("engine"),
        )

    def _cell_value(self, name: str) -> str:
        return self.cell.get(name, "?")

    def to_line(self) -> dict[str, Any]:
        """Return the record as the JSON object of its line in results.jsonl."""
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


@dataclass(frozen=True, slots=True)
class SessionResults:
    """A session's results: live at its end, or read back from its results.jsonl."""

    header: Mapping[str, Any]
    """The first line of results.jsonl: ``started`` (ISO 8601), ``args``, ``options``,
    ``items``, ``rounds``, ``versions`` and ``system`` (name and summary)."""
    records: tuple[Record, ...]
    """One an item, in the order in which they ended."""
    end: Mapping[str, Any] | None
    """The last line: ``exitstatus``, ``interrupted``, ``selected``, ``recorded``,
    ``counts`` by outcome, ``ended``; None for a session that was killed."""
    torn: tuple[int, ...] = ()
    """Numbers of the lines that a kill or a full disk tore."""

    @property
    def is_torn(self) -> bool:
        """True where lines are missing: the closing one, or one that was torn."""
        return self.end is None or bool(self.torn)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts to show, of the items that ran to their end."""
        shown = (record.verdict_to_show() for record in self.records)
        return tuple(verdict for verdict in shown if verdict)

    @property
    def verdicts_to_compare(self) -> tuple[Verdict, ...]:
        """The same by the rules alone, whatever the items' tests assert."""
        found = (record.verdict_to_compare() for record in self.records)
        return tuple(verdict for verdict in found if verdict)

    @property
    def exit_status(self) -> int | None:
        """Pytest's exit status before reporters ran; None for a killed session."""
        return self.end["exitstatus"] if self.end else None

    @property
    def is_interrupted(self) -> bool:
        """True where items that were selected did not run, by Ctrl-C or a kill."""
        return self.end is None or bool(self.end["interrupted"])

    @property
    def labels(self) -> tuple[str, ...]:
        """What keeps a verdict here from being a submission result: ``embedded`` …"""
        return tuple(dict.fromkeys(x for v in self.verdicts for x in v.labels))
