"""Expands a round's compact table, one row a benchmark, to its rules."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any

from pytest_mlperf.core.rounds.rule import AccuracyLimit
from pytest_mlperf.core.rounds.rule import Round
from pytest_mlperf.core.rounds.rule import Rule
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.types import Seeds

SS = Scenario.SINGLE_STREAM
MS = Scenario.MULTI_STREAM
OFFLINE = Scenario.OFFLINE
SERVER = Scenario.SERVER
INTERACTIVE = Scenario.INTERACTIVE
ORDER = (SS, MS, OFFLINE, SERVER, INTERACTIVE)

LATENCY_KEYS = {SS: "early_stopping_latency_ss", MS: "early_stopping_latency_ms"}
PERCENTILE_KEY = "result_90.00_percentile_latency_ns"
"""Of SingleStream before early stopping."""
THROUGHPUT_KEYS = {
    "samples": ("result_samples_per_second", "result_completed_samples_per_sec"),
    "scheduled": ("result_samples_per_second", "result_scheduled_samples_per_sec"),
    "tokens": ("result_tokens_per_second", "result_completed_tokens_per_second"),
    "inferred": (
        "result_inferred_tokens_per_second",
        "result_inferred_completed_tokens_per_second",
    ),
}
"""What the checker reports: Offline's key, then Server's."""


CHOICES = {
    "query counts": (
        "mlperf.conf's: the checker's table says 1024 and 270336 to this day, but asks"
        " for them only without early stopping, which all but Offline have"
    ),
    "token latencies": (
        "first token and time per token alone: the checker's 20 s or 60 s for a whole"
        " answer is compared with LoadGen's target_latency, which mlperf.conf sets to 0"
    ),
}
"""Where a round's sources disagree in all benchmarks alike: what was chosen, why."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One accuracy metric: its reference, and its own ratio where it has one."""

    metric: str
    reference: float
    ratio: float | None = None
    """None takes the ratio of the accuracy target."""
    upper: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One benchmark in one round, as the round's tables state it.

    ``edge``, ``datacenter`` and ``both`` (a system that enters both categories)
    name the scenarios, separated by spaces; one that ends in ``?`` is optional.
    Latencies are milliseconds.
    """

    name: str
    model: str
    """LoadGen's name in mlperf.conf."""
    targets: Mapping[str, float]
    """Accuracy target -> share of the reference."""
    accuracy: tuple[Goal, ...]
    dataset: int
    samples: int
    """Performance sample count."""
    offline: int = 0
    """Samples that an Offline run needs."""
    offline_conf: int | None = None
    """min_query_count for Offline in mlperf.conf, where it is another number."""
    edge: str = ""
    datacenter: str = ""
    both: str = ""
    server_ms: int | None = None
    interactive_ms: int | None = None
    server_tokens: tuple[int, int] | None = None
    """Time to first token and time per output token."""
    interactive_tokens: tuple[int, int] | None = None
    tokens: bool = False
    """mlperf.conf switches token latencies on."""
    equal_issue: bool = False
    equal_issue_in: tuple[Scenario, ...] = ()
    """The scenarios with equal issue, where it is not in all of them."""
    result: str = "samples"
    result_keys: Mapping[Scenario, str] = field(default_factory=dict)
    units: Mapping[Scenario, str] = field(default_factory=dict)
    """The published unit, where it is another than the scenario's."""
    min_duration_ms: int | None = None
    """If another than the round's."""
    stream_percentile: float = 0.90
    accuracy_samples: Mapping[Scenario, int] = field(default_factory=dict)
    accuracy_of: Mapping[Scenario, tuple[Goal, ...]] = field(default_factory=dict)
    compliance: tuple[str, ...] = ("TEST01",)
    tables: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    """Target -> its own ``edge``, ``datacenter`` and ``both``, if it differs."""
    note: str = ""
    """Where sources disagree: what was chosen and why."""

    def scenarios(self, target: str) -> Iterator[tuple[Scenario, set[str], set[str]]]:
        """Yield each scenario with the categories that allow and that require it."""
        own = self.tables.get(target, (self.edge, self.datacenter, self.both))
        tables = dict(zip(("edge", "datacenter", "datacenter_edge"), own, strict=True))
        for scenario in ORDER:
            allowed = {
                name
                for name, table in tables.items()
                if scenario.value in table.replace("?", "").split()
            }
            required = {
                name for name in allowed if scenario.value in tables[name].split()
            }
            if allowed:
                yield scenario, allowed, required


@dataclass(frozen=True, slots=True, kw_only=True)
class Era:
    """What a round says of all benchmarks alike."""

    name: str
    seeds: Seeds
    sources: Mapping[str, str]
    queries: Mapping[Scenario, int]
    """min_query_count that FromConfig yields; LoadGen's own default is 100."""
    loadgen_since: str
    """The oldest LoadGen of the round: date of its commit, ``2024-04-01``."""
    min_duration_ms: int = 600_000
    early_stopping: bool = True
    """False: min_query_count decides alone, as before v2.0."""


def build(era: Era, families: Iterable[Family]) -> Round:
    """Return the round whose rules are ``families`` spread over their scenarios."""
    rules = [
        make_rule(era, family, target, *scenario)
        for family in families
        for target in family.targets
        for scenario in family.scenarios(target)
    ]
    return Round(era.name, era.seeds, tuple(rules), era.sources, era.loadgen_since)


def revise(
    families: Iterable[Family],
    *,
    drop: Iterable[str] = (),
    change: Mapping[str, Mapping[str, Any]] | None = None,
    add: Iterable[Family] = (),
) -> tuple[Family, ...]:
    """Return the next round's table: the previous one with stated differences.

    Raises ``ValueError`` for a name that the previous round does not have.
    """
    table = {family.name: family for family in families}
    unknown = {*drop, *(change or {})} - table.keys()
    if unknown:
        raise ValueError(f"not in the previous round: {', '.join(sorted(unknown))}")
    for name, fields in (change or {}).items():
        table[name] = replace(table[name], **fields)
    others = [family for name, family in table.items() if name not in set(drop)]
    return (*others, *add)


def make_rule(
    era: Era,
    family: Family,
    target: str,
    scenario: Scenario,
    allowed: set[str],
    required: set[str],
) -> Rule:
    """Return the rule of one family, target and scenario."""
    bounded = scenario in (SERVER, INTERACTIVE)
    interactive = scenario is INTERACTIVE
    limit_ms = family.interactive_ms if interactive else family.server_ms
    tokens = family.interactive_tokens if interactive else family.server_tokens
    percentile = {SS: family.stream_percentile, OFFLINE: None}.get(scenario, 0.99)
    queries = era.queries.get(scenario, era.queries.get(SERVER, 100))
    if scenario is OFFLINE:
        conf = family.offline_conf
        queries = family.offline if conf is None else conf
    goals = family.accuracy_of.get(scenario, family.accuracy)
    notes = [family.note] if family.note else []
    key, unit = find_result_key(era, family, scenario)
    shown = family.units.get(scenario, "ms" if unit == "ns" else unit)
    least_ms = family.min_duration_ms
    return Rule(
        benchmark=family.name,
        target=target,
        scenario=scenario,
        round=era.name,
        loadgen_model=family.model + ("-interactive" if interactive else ""),
        categories=frozenset(allowed),
        required_in=frozenset(required),
        min_duration_ms=era.min_duration_ms if least_ms is None else least_ms,
        min_query_count=queries,
        min_sample_count=family.offline if scenario is OFFLINE else 0,
        performance_sample_count=family.samples,
        dataset_size=family.dataset,
        accuracy_sample_count=family.accuracy_samples.get(scenario, family.dataset),
        target_latency_ns=limit_ms * 1_000_000 if bounded and limit_ms else None,
        percentile=percentile,
        samples_per_query=8 if scenario is MS else 1,
        ttft_ns=tokens[0] * 1_000_000 if bounded and tokens else None,
        tpot_ns=tokens[1] * 1_000_000 if bounded and tokens else None,
        use_token_latencies=family.tokens,
        early_stopping=era.early_stopping,
        equal_issue=family.equal_issue or scenario in family.equal_issue_in,
        result_key=key,
        unit=unit if unit == "ns" else shown,
        shown_unit=shown if unit == "ns" else "ms",
        accuracy=tuple(
            AccuracyLimit(
                goal.metric,
                goal.reference,
                family.targets[target] if goal.ratio is None else goal.ratio,
                goal.upper,
            )
            for goal in goals
        ),
        compliance=family.compliance,
        sources=(*era.sources.values(), *notes),
    )


def find_result_key(era: Era, family: Family, scenario: Scenario) -> tuple[str, str]:
    """Return the key of the reported figure and its unit."""
    if scenario is SS and not era.early_stopping:
        return PERCENTILE_KEY, "ns"
    if scenario in LATENCY_KEYS:
        return family.result_keys.get(scenario, LATENCY_KEYS[scenario]), "ns"
    offline, server = THROUGHPUT_KEYS[family.result]
    if scenario in family.result_keys:
        return family.result_keys[scenario], "queries/s"
    if family.result in ("tokens", "inferred"):
        return (offline if scenario is OFFLINE else server), "tokens/s"
    if scenario is OFFLINE:
        return offline, "samples/s"
    return server, "queries/s"
