"""The outcome of judging a run: checks, metric and verdict, JSON both ways."""

from __future__ import annotations

import enum
import json
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from dataclasses import replace
from typing import Any

from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.latency_breakdown import describe_breakdown
from pytest_mlperf.core.power.result import describe_power
from pytest_mlperf.core.redaction import redact_values

VERDICT_FILE = "verdict.json"
"""In every run's folder: what the rules said of it."""

OTHERS = "other load"
"""The fact that says what else used the CPUs of a run."""

PRECISION_CHOSEN = "precision chosen"
"""The fact that says which precision was faster, where nobody chose one."""

RETARGETED = "retargeted"
"""The fact that tells of an INVALID run whose remedy this run was made by."""

NOT_REPEATED = "second run"
"""The fact that says why an INVALID run was not followed by a second one, for which
there is a value.
"""

REPEATS = "repeats"
"""The fact that says in words what the runs of a repeated item were."""


class Status(enum.Enum):
    """How one rule came out."""

    PASS = "pass"  # noqa: S105 - not a password
    FAIL = "fail"
    WAIVED = "waived"
    """Not held to the round's rule (fast run, embedded data): never a pass."""
    ERROR = "error"
    """Could not be judged."""


@dataclass(frozen=True, slots=True)
class Check:
    """One rule's outcome: what was found, what it should be, where, what to do."""

    name: str
    status: Status
    found: str
    required: str
    where: str
    """``file:line`` inside the run's folder, or the setting that was read."""
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.name}: found {self.found}, should be {self.required}"
        text += f" [{self.where}]"
        return f"{text}: {self.remedy}" if self.remedy else text


@dataclass(frozen=True, slots=True)
class Metric:
    """A number with the LoadGen key it was read from and its unit."""

    key: str
    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.value:,.6g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Score:
    """An accuracy metric with the threshold that it has to reach, in its unit."""

    metric: str
    """As accuracy.txt has it: ``ROUGE1``."""
    value: float
    threshold: float
    unit: str = ""
    """``%``, or empty."""


CONSEQUENCES = ("loadgen_validity", "flags_agree", "summary_agrees", "metric_present")
"""Checks that fail because another one does."""
CAUSES = ("no_errors", "latency_bound")
"""Checks that say why others fail, such as early stopping's number of queries."""
LONGEST_CAUSE = 300


def rank_check(check: Check) -> int:
    """Return 0 for what others follow from, up to 2 for what follows from others."""
    return 0 if check.name in CAUSES else 1 + (check.name in CONSEQUENCES)


def keep_known(kind: Any, data: Any) -> dict[str, Any]:
    """Return what of a JSON object are fields of a dataclass: a newer version may have
    written more, and what follows from others (a verdict's outcome) is none.
    """
    return {one.name: data[one.name] for one in fields(kind) if one.name in data}


METRIC_FIELDS = ("metric", "limit", "at_percentile", "tpot", "tpot_limit")
"""Of a ``Verdict``."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say of one run."""

    benchmark: str
    """Benchmark with its target: ``bert-99``."""
    scenario: str
    """``Server``."""
    engine: str
    mode: str
    """``performance`` or ``accuracy``."""
    round: str
    metric: Metric | None
    checks: tuple[Check, ...]
    labels: tuple[str, ...] = ()
    """What keeps this from being a submission result: ``embedded``, ``fast`` …"""
    limit: Metric | None = None
    """The bound that the run was held to (latency, or accuracy threshold)."""
    scores: tuple[Score, ...] = ()
    """Every metric of an accuracy run, the one in ``metric`` first."""
    percentile: float | None = None
    """Of the latency that is bounded or reported: 0.99."""
    at_percentile: Metric | None = None
    """The latency measured at ``percentile``; of tokens, the first one's."""
    tpot: Metric | None = None
    """The time per output token measured at ``percentile``."""
    tpot_limit: Metric | None = None
    unjudged: dict[str, Metric] = field(default_factory=dict)
    """What no rule looks at, by the name people know: ``end-to-end p99``."""
    expected_s: float | None = None
    actual_s: float | None = None
    folder: str = ""
    build: str = ""
    """Content hash of the engine build that answered."""
    facts: dict[str, str] = field(default_factory=dict)
    """What else a reader needs, in words: system, precision, streams, batch …"""
    run: RunFacts = field(default_factory=RunFacts)
    """What the program decides on; empty for somebody else's log."""
    inferred: str = ""
    """Scenario that really ran, where this one's figure was inferred from it."""
    repeats: tuple[Verdict, ...] = ()
    """Every run of an item with --mlperf-repeat, this one too, as they ran."""

    @property
    def outcome(self) -> str:
        """``VALID``, ``INVALID`` or ``ERROR`` (cannot be judged)."""
        states = {check.status for check in self.checks}
        if Status.ERROR in states or not self.checks:
            return "ERROR"
        return "INVALID" if Status.FAIL in states else "VALID"

    @property
    def valid(self) -> bool:
        """True when every rule passed or was waived, and there was one to judge."""
        return self.outcome == "VALID"

    @property
    def waived(self) -> tuple[Check, ...]:
        """The rules this run was not held to."""
        return tuple(c for c in self.checks if c.status is Status.WAIVED)

    @property
    def is_late(self) -> bool:
        """True where the latency at the percentile is above its limit."""
        found, limit = self.at_percentile, self.limit
        if not found or not limit or found.unit != limit.unit:
            return False
        return found.value > limit.value

    @property
    def root_cause(self) -> Check | None:
        """The check that the others follow from; None for a VALID run."""
        for status in (Status.ERROR, Status.FAIL):
            if found := [check for check in self.checks if check.status is status]:
                return min(found, key=rank_check)
        return None

    @property
    def cause(self) -> str:
        """The root cause in one line: ``p99 50.1 ms > 15 ms at 12.5 queries/s``; empty
        for a VALID run.
        """
        check = self.root_cause
        if check is None:
            return "" if self.checks else "no rule was checked"
        text = f"{check.name}: {check.found}, should be {check.required}"
        if check.name == "latency_bound" and self.is_late:
            rate = f" at {self.metric}" if self.metric else ""
            share = (self.percentile or 0) * 100
            text = f"p{share:g} {self.at_percentile} > {self.limit}{rate}"
        line = " ".join(text.split())
        return line if len(line) <= LONGEST_CAUSE else f"{line[:LONGEST_CAUSE]}…"

    def to_json(self) -> str:
        """Return one line of JSON, which ``from_json`` reads back to an equal value
        unless there was a secret to hide in it.
        """
        data = asdict(replace(self, repeats=()))
        for check in data["checks"]:
            check["status"] = check["status"].value
        data["run"] = self.run.to_dict()
        data["repeats"] = [json.loads(one.to_json()) for one in self.repeats]
        data["outcome"] = self.outcome
        return json.dumps(redact_values(data), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Verdict:
        """Read what ``to_json`` wrote; ``ValueError`` for anything else."""
        try:
            data = keep_known(cls, json.loads(text))
            for name in METRIC_FIELDS:
                # An older version knew fewer.
                given = data.get(name)
                data[name] = Metric(**given) if given else None
            shown = data.get("unjudged", {})
            data["unjudged"] = {name: Metric(**one) for name, one in shown.items()}
            data["checks"] = tuple(
                Check(**{**c, "status": Status(c["status"])}) for c in data["checks"]
            )
            data["scores"] = tuple(Score(**one) for one in data.get("scores", ()))
            data["labels"] = tuple(data["labels"])
            data["run"] = RunFacts.from_dict(data.get("run", {}))
            runs = (json.dumps(one) for one in data.get("repeats", ()))
            data["repeats"] = tuple(map(cls.from_json, runs))
            return cls(**data)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a verdict: {error}") from error

    def tokens(self) -> str:
        """Return token latencies in words: what is bounded in percent of its limit, and
        what no rule looks at; empty for a run whose tokens nobody timed.
        """
        pairs = []
        if self.tpot and self.tpot_limit and self.percentile is not None:
            share = f"p{self.percentile * 100:g}"
            pairs = [("TTFT", self.at_percentile, self.limit)]
            pairs += [("TPOT", self.tpot, self.tpot_limit)]
        judged = ", ".join(
            f"{name} {share} {m.value:,.1f} {m.unit} "
            f"({m.value / bound.value:.0%} of {bound.value:g})"
            for name, m, bound in pairs
            if m and bound
        )
        shown = ", ".join(
            f"{name} {m.value:,.1f} {m.unit}" for name, m in self.unjudged.items()
        )
        return "; ".join(filter(None, [judged, shown and f"unjudged: {shown}"]))

    def requests(self) -> str:
        """Return what a service's client had to do beside asking once; else nothing."""
        if not self.run.resent:
            return ""
        return f"{self.run.resent:,} of {self.run.requests:,} requests sent again"

    def breakdown(self) -> str:
        """Return where a request's time went, where a server tells it."""
        if not self.run.breakdown_us:
            return ""
        return describe_breakdown(self.run.breakdown_us, self.run.end_to_end_us)

    def power(self) -> str:
        """Return what a power meter, or else the chips, told; empty without either."""
        return describe_power(self.run.power, self.run.chip_watts)

    def explain(self) -> str:
        """Return the verdict in words: failed checks first, each with its remedy.

        Of a run that is not VALID, the first line is the root cause.
        """
        title = f"{self.benchmark} {self.scenario} {self.mode} ({self.engine})"
        lines = [f"{title}: {self.outcome} under {self.round}"]
        if self.inferred:
            lines[0] += f", inferred from {self.inferred}"
        if self.labels:
            lines[0] += f" [{', '.join(self.labels)}: not a submission result]"
        if beside := self.run.disturbance:
            lines[0] += f", beside {beside}"
        lines[:0] = [self.cause] * (not self.valid)
        for status in (Status.ERROR, Status.FAIL, Status.WAIVED):
            found = [c for c in self.checks if c.status is status]
            lines += [f"  {status.value:6} {check}" for check in found]
        if not self.checks:
            lines.append("  error  no rule was checked; a gate needs one to judge")
        told = (self.facts.get(one) for one in (RETARGETED, NOT_REPEATED, REPEATS))
        lines += [f"  {text}" for text in told if text]
        if chosen := self.facts.get(PRECISION_CHOSEN):
            lines.append(f"  precision {chosen}")
        if self.outcome == "INVALID" and (tuning := self.facts.get("tuning")):
            lines.append(f"  tuned by: {tuning}")
        if self.outcome == "INVALID" and self.run.is_disturbed:
            lines.append(f"  {OTHERS}: {self.facts[OTHERS]}")
        if self.run.throttled:
            lines.append(f"  cpu quota: {self.run.throttled}")
        figures = self.tokens(), self.requests(), self.breakdown(), self.power()
        lines += [f"  {text}" for text in figures if text]
        passed = sum(c.status is Status.PASS for c in self.checks)
        lines.append(f"  {passed} of {len(self.checks)} rules passed")
        if self.folder:
            lines.append(f"  logs: {self.folder}")
        return "\n".join(lines)
