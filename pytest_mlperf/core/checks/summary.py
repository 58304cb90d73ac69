"""Does the summary say what the detail log says? No official checker looks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Iterator
from itertools import chain

from pytest_mlperf.core.checks.consistency import REMEDY
from pytest_mlperf.core.checks.consistency import Contradiction
from pytest_mlperf.core.checks.consistency import check_contradiction
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.outcome import Outcome
from pytest_mlperf.core.checks.rule_check import PERFORMANCE
from pytest_mlperf.core.checks.rule_check import check
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import SIX_DIGITS
from pytest_mlperf.core.logs.log import SUMMARY
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.logs.summary import UNUSED_BOUNDS
from pytest_mlperf.core.logs.summary import list_expected_lines
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario

ROUNDED = frozenset(
    {
        "result_completed_samples_per_sec",
        "result_scheduled_samples_per_sec",
        "result_completed_tokens_per_second",
        "result_qps_with_loadgen_overhead",
        "result_qps_without_loadgen_overhead",
    }
)
WRAPPED = re.compile(
    r"(early stopping estimate \(would need to process at least \d+ total queries\)\. )"
    r"{1,2}"
)
"""Of the whole latency, or of first token and time per token."""
TOKEN_BOUND_NS = 100_000_000
"""Of the first token and of each: loadgen/test_settings.h, where nothing sets them."""
ALLOCATION = "Logging allocation detected: "
MANY_ALLOCATIONS = 8
"""Of these warnings, one a thread."""
TWO_PLACES = 0.00501
NUMBER = re.compile(r"-?\d{1,30}(\.\d{1,30})?(e[+-]?\d{1,3})?", re.ASCII)
RESULT = re.compile(r"result_.*latency_ns")


@check("summary_agrees", modes=PERFORMANCE, any_scenario=True)
def summary_agrees(run: JudgedRun) -> Outcome:
    """Summary and detail log are of the same run.

    ``LogError`` where most measured values differ, because the files are of two runs,
    and where the detail log lacks warnings that the summary counts; more are fine.
    """
    log = run.log
    lost = log.summary_warnings - log.warning_count
    if lost > 0 and not may_lose_warnings(log, lost):
        found = f"{log.warning_count:,} warnings"
        required = f"{log.summary_warnings:,}, as {SUMMARY} counts"
        raise LogError(log.folder / DETAIL, 0, found, required, REMEDY)
    if run.mode is Mode.ACCURACY:
        return Outcome(True, "no results in it", "none", SUMMARY)
    pairs = [
        (label, line.key)
        for line in list_expected_lines(log.values)
        for label in line.labels
    ]
    pairs = [(label, key) for label, key in pairs if label in log.summary]
    alone = [pair for pair in pairs if pair[1] not in log.values]
    pairs = [pair for pair in pairs if pair[1] in log.values]
    differ = [pair for pair in pairs if not is_alike(log, *pair)]
    measured = [key for _, key in pairs if RESULT.fullmatch(key)]
    apart = [key for _, key in differ if RESULT.fullmatch(key)]
    if 2 * len(apart) > len(measured):
        found = f"{len(apart)} of {len(measured)} latencies unlike those in {DETAIL}"
        raise LogError(log.folder / SUMMARY, 0, found, "the files of one run", REMEDY)
    wrong = next(chain(find_wrong_bounds(run, alone), find_wrong_notes(log)), None)
    if differ:
        label, key = differ[0]
        where = f"{SUMMARY}:{log.summary_lines[label]}"
        required = f"{str(log.get(key))[:60]}, as {log.where(key)} has it"
        wrong = Contradiction(f"{label} {log.summary[label][:60]}", required, where)
    found = "one run"
    if lost > 0:
        found = (
            f"one run; LoadGen lost {lost:,} of its {log.summary_warnings:,} warnings"
        )
    return check_contradiction(wrong, found, SUMMARY)


def may_lose_warnings(log: Log, lost: int) -> bool:
    """Return whether LoadGen's own logger ran short of memory, and says so.

    Then the last of its warnings may be missing: after many of these in 5 of 30,811
    official logs up to v5.1, and one after one of them in 4 of v6.0.
    """
    texts = (event.text for event in log.warnings)
    count = sum(text.startswith(ALLOCATION) for text in texts)
    return count >= MANY_ALLOCATIONS or lost <= count


def find_wrong_bounds(
    run: JudgedRun, pairs: Iterable[tuple[str, str]]
) -> Iterator[Contradiction]:
    """Yield the bounds of tokens that LoadGen cannot have had where it uses none.

    ``pairs``: label and key. LoadGen takes them from mlperf.conf's Server scenario, or
    has its own; so do all 350 official logs with such lines.
    """
    server = run.round.find(run.rule.benchmark, run.rule.target, Scenario.SERVER)
    bounds = (server.ttft_ns, server.tpot_ns) if server else (None, None)
    of_round = dict(zip(UNUSED_BOUNDS, bounds, strict=True))
    for label, key in pairs:
        legal = [str(x) for x in (of_round[key], TOKEN_BOUND_NS) if x is not None]
        if run.log.summary[label] not in legal:
            required = f"{' or '.join(legal)}, by mlperf.conf or LoadGen's default"
            where = f"{SUMMARY}:{run.log.summary_lines[label]}"
            found = f"{label} {run.log.summary[label][:40]}"
            yield Contradiction(found, required, where)


def find_wrong_notes(log: Log) -> Iterator[Contradiction]:
    """Yield what the summary says of early stopping and the detail log lacks."""
    if log.get("result_validity") != "VALID":
        return  # There are recommendations as well.
    keys = [f"early_stopping_{kind}result" for kind in ("", "ttft_", "tpot_")]
    texts = [str(log.get(key, "")) for key in keys]
    left = " ".join(" ".join(texts).split()) + " "
    for note in log.notes:
        if f"{note} " not in left:
            yield Contradiction(note[:80], f"as {log.where(keys[0])} has it", SUMMARY)
        left = left.replace(f"{note} ", "", 1)
    # The summary's lines of this sentence are broken, and only the first has a star.
    if left.strip() and not WRAPPED.fullmatch(left):
        yield Contradiction("no such line", left[:80], SUMMARY)


def is_alike(log: Log, label: str, key: str) -> bool:
    """True when a line of the summary agrees with the detail log."""
    text, value = log.summary[label], log.values[key]
    if type(value) is bool:
        return text in (("Yes", "1") if value else ("NO", "No", "0"))
    if type(value) is str:
        # A name beyond ASCII may have been written in another encoding.
        return text == value.strip() or not (text + value).isascii()
    if type(value) is int and text.isascii() and text.removeprefix("-").isdigit():
        return len(text) <= 20 and int(text) == value
    if not NUMBER.fullmatch(text):
        return False
    number = float(text)
    # LoadGen rounds some to two places, and all to the six digits of the detail log.
    room = TWO_PLACES if key in ROUNDED else 0.0
    return bool(abs(number - value) <= room + SIX_DIGITS * abs(value))
