"""Do the token rates agree, and do the answers have the usual length?

The relations are LoadGen's own arithmetic: loadgen/results.cc of mlcommons/inference.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mlperf.core.checks.consistency import WRAPS
from pytest_mlperf.core.checks.consistency import Contradiction
from pytest_mlperf.core.checks.consistency import compare_range
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.context import compute_final_s
from pytest_mlperf.core.logs.log import SIX_DIGITS
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.types import Scenario

SHORT_ANSWER = "Number of tokens need to be greater than 1"
"""How LoadGen's error begins for an answer of one token, whose time per further token
it then reckons with all the same, and gets less than nothing."""
TWO_TOKENS = (
    "have the server answer two tokens at least, as min_tokens asks: an answer of one "
    "has no time per further token"
)
LENGTHS = 4 / 3
"""Answers in a performance run were at most 1.13 times off their reference's length,
either way, in all of round v5.1."""


def has_short_answers(log: Log) -> bool:
    """Return whether LoadGen met answers of one token."""
    return any(error.text.startswith(SHORT_ANSWER) for error in log.errors)


def find_wrong_token_rates(
    run: JudgedRun, most_s: float, least_s: float
) -> Iterator[Contradiction]:
    """Yield token rates that imply different numbers of tokens."""
    log, key = run.log, "result_completed_tokens_per_second"
    mean = log.integer("result_mean_latency_ns")
    tokens = log.number("result_token_throughput") * mean * run.samples
    if tokens <= 0:
        name = "result_token_throughput"
        yield Contradiction(f"{name} {log.get(name)}", "above 0", log.where(name))
    if mean * run.samples >= WRAPS or least_s <= 0:
        return
    low, high = tokens / most_s, tokens / least_s
    why = "by result_token_throughput"
    if key in log.values:
        low, high = low * (1 - SIX_DIGITS), high * (1 + SIX_DIGITS)
        yield from compare_range(log, key, low, high, why)
    key, issued = (
        "result_token_throughput_with_loadgen_overhead",
        tokens / compute_final_s(run),
    )
    low, high = min(low, issued), max(high, issued)
    yield from compare_range(log, key, low, high * (1 + SIX_DIGITS), why)


def find_wrong_lengths(run: JudgedRun) -> Iterator[Contradiction]:
    """Yield answers much shorter or longer than an accurate model's.

    The accuracy run may be 10 % off the reference; where it has the same samples,
    the answers cannot be another length here. A goal without a reference, an upper
    limit alone, is of other samples (gpt-oss).
    """
    rule, log, key = run.rule, run.log, "result_completed_tokens_per_second"
    rate = "result_completed_samples_per_sec"
    if run.scenario is Scenario.OFFLINE:
        key, rate = "result_tokens_per_second", "result_samples_per_second"
    name = "TOKENS_PER_SAMPLE"
    goal = next((goal for goal in rule.accuracy if goal.metric == name), None)
    ours = run.context.reference is not None or run.context.waiver(f"accuracy_{name}")
    whole = rule.performance_sample_count >= rule.accuracy_sample_count
    if goal is None or goal.reference <= 0 or ours or not whole:
        return
    if not {key, rate} <= log.values.keys():
        return
    each = log.number(key) / log.number(rate)
    if not goal.reference / LENGTHS <= each <= goal.reference * LENGTHS:
        required = f"about {goal.reference:g}"
        yield Contradiction(f"{each:,.6g} tokens an answer", required, log.where(key))
