"""What is odd about a log and breaks no rule: for the reader, among the facts.

Each note is of something that no LoadGen of an official result wrote; a machine with
its clock wrong, or another C++ library, can.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from datetime import datetime
from datetime import timedelta

from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.context import read_elapsed_s
from pytest_mlperf.core.checks.context import read_times
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.load_order import SHOWN
from pytest_mlperf.core.logs.load_order import list_permutations
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.types import Mode

DAY = timedelta(days=1)
SLACK_MS = 1000.0


def list_notes(run: JudgedRun) -> dict[str, str]:
    """Return what is odd about a log, by the name of the fact; empty for most."""
    notes = {}
    if text := "; ".join(find_clock_faults(run.log)):
        notes["clock"] = text
    if text := explain_load_order(run):
        notes["loaded samples"] = text
    return notes


def find_clock_faults(log: Log) -> Iterator[str]:
    """Yield what the clocks of a log cannot have shown."""
    started = read_date(log, "test_datetime")
    built = read_date(log, "loadgen_git_commit_date")
    if started and built and started < built - DAY:
        commit = f"LoadGen's commit, {built:%Y-%m-%d}"
        yield f"test_datetime {started:%Y-%m-%d} is before {commit}"
    try:
        begun, elapsed = min(read_times(log, "power_begin")), read_elapsed_s(log)
    except LogError:
        return  # A check of the same value is in error and says so.
    if started and abs(started - begun) > 2 * DAY:
        day = f"the day of power_begin, {begun:%Y-%m-%d}"
        yield f"test_datetime {started:%Y-%m-%d} is not {day}"
    first, last = log.times_ms
    if first < 0:
        yield f"time_ms goes back to {first:,.6g}"
    elif last + SLACK_MS < elapsed * 1000 * 0.99:
        yield f"time_ms ends at {last:,.6g}, and the run took {elapsed * 1000:,.0f} ms"


def read_date(log: Log, key: str) -> datetime | None:
    """Return a date of the log as UTC; None where it has none that is one."""
    try:
        found = datetime.fromisoformat(str(log.get(key, "")))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def explain_load_order(run: JudgedRun) -> str:
    """Return in words that the loaded samples are not in the seed's order, or nothing.

    The seed is the round's, or the run fails by it; the set shows whether it was used.
    """
    log = run.log
    seed, total = run.round.seeds.qsl, run.rule.dataset_size
    # Of another seed or dataset other checks speak, and an order takes time.
    same = (seed, total) == (
        log.get("effective_qsl_rng_seed"),
        log.get("qsl_reported_total_count"),
    )
    if run.mode is not Mode.PERFORMANCE or not same or not log.loaded:
        return ""
    found = log.loaded[0].first[:SHOWN]
    possible = list_permutations(seed, total)
    if any(found == order[: len(found)] for order in possible):
        return ""
    shown, wanted = (", ".join(map(str, one[:3])) for one in (found, possible[0]))
    return (
        f"loaded_qsl_set begins {shown}; shuffled with effective_qsl_rng_seed it would "
        f"begin {wanted} (libstdc++)"
    )
