"""Which round a run is of: by its seeds, or by those of the run it belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pytest_mlperf.core import compliance
from pytest_mlperf.core import rounds
from pytest_mlperf.core.logs.discover import RUN
from pytest_mlperf.core.logs.discover import FoundRun
from pytest_mlperf.core.logs.discover import find_test_name
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.regular_file import open_regular
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status

KINDS = ("qsl", "sample_index", "schedule")
SEED = re.compile(
    rb'"key": "effective_(qsl|sample_index|schedule)_rng_seed", "value": (\d{1,20}),'
)
HEAD = 1 << 17
"""Bytes in which a log has its settings: about 30 kB."""
LoggedSeeds = tuple[object, object, object]


@dataclass(frozen=True, slots=True)
class ChosenRound:
    """The round that judges a run, and how it was found."""

    name: str
    """Empty: the seeds are of no known round."""
    how: str


def choose_round(log: Log, place: FoundRun, round_name: str) -> ChosenRound:
    """Return the round that judges a run.

    ``round_name`` is the user's. Without it the seeds decide: of a performance run its
    own, of any other those of the performance run that it belongs to. An accuracy run
    whose own seeds are of no round, and which stands alone, is judged by the newest
    round that has it, because no round fixes its seeds.
    """
    if round_name:
        return ChosenRound(rounds.get(round_name).name, "as asked for")
    if place.mode is not Mode.PERFORMANCE:
        for folder in list_performance_runs(place):
            name = find_round(read_seeds(folder), place, "")
            if name:
                return ChosenRound(name, "the seeds of its performance run")
    date = f"{log.dialect.date:%Y-%m-%d}"
    if name := find_round(get_seeds(log), place, place.test, date):
        return ChosenRound(name, "its seeds are in the log")
    assert place.scenario is not None
    newest = rounds.find_newest(place.benchmark, place.target, place.scenario)
    if place.mode is Mode.ACCURACY and newest:
        return ChosenRound(newest.name, "the newest that has it; its seeds are free")
    return ChosenRound("", "")


def find_round(
    seeds: LoggedSeeds | None, place: FoundRun, test: str, date: str = ""
) -> str:
    """Return the round of seeds; empty for unknown ones.

    TEST05's were the same from v1.0 to v2.1: the newest of those that has the run, and
    that a LoadGen of the commit's ``date`` may be of.
    """
    found = [name for name in reversed(rounds.ROUNDS) if has_seeds(name, seeds, test)]
    if date:
        of_date = [name for name in found if rounds.get(name).loadgen_since <= date]
        found = of_date or found
    for name in found:
        scenario = place.scenario
        if scenario and rounds.get(name).find(place.benchmark, place.target, scenario):
            return name
    return found[0] if found else ""


def has_seeds(name: str, seeds: LoggedSeeds | None, test: str) -> bool:
    """Return whether seeds are a round's, or those of a compliance test in it."""
    own = rounds.get(name).seeds
    if test in compliance.names():
        changed = compliance.get(test).seeds(own)
        if changed is None:
            return False
        own = changed
    return seeds == (own.qsl, own.sample_index, own.schedule)


def get_seeds(log: Log) -> LoggedSeeds:
    """Return the seeds of a log that has been read."""
    qsl, sample_index, schedule = (log.get(f"effective_{k}_rng_seed") for k in KINDS)
    return qsl, sample_index, schedule


def list_performance_runs(place: FoundRun) -> Iterator[Path]:
    """Yield where the performance run can be that an accuracy or audited run is of."""
    # Not resolved: a link's name is what its maker wants the run to be.
    path = place.path.absolute()
    if RUN.fullmatch(path.name):
        path = path.parent
    home = path.parent
    if place.test and find_test_name(home.name):
        home = home.parent
    homes = [home]
    parts = list(home.parts)
    if len(parts) > 3 and parts[-4] == "compliance":
        parts[-4] = "results"
        homes.insert(0, Path(*parts))
    for one in homes:
        yield from (one / "performance" / "run_1", one / "performance")


@lru_cache(maxsize=4096)
def read_seeds(folder: Path) -> LoggedSeeds | None:
    """Return the seeds in a run's detail log, without reading all of it; or None."""
    try:
        with open_regular(folder / DETAIL) as file:
            found = {m[1].decode(): int(m[2]) for m in SEED.finditer(file.read(HEAD))}
    except (LogError, OSError):
        return None
    if len(found) < len(KINDS):
        return None
    return found["qsl"], found["sample_index"], found["schedule"]


def check_unknown_seeds(log: Log) -> Check:
    """Return the error of a run whose seeds are of no known round."""
    seeds = ", ".join(str(seed) for seed in get_seeds(log))
    found = f"seeds of no known round: {seeds}"
    required = f"those of a round from {rounds.ROUNDS[0]} to {rounds.ROUNDS[-1]}"
    remedy = "pass --round NAME to judge it by that round's rules"
    where = log.where("effective_qsl_rng_seed")
    return Check("seeds", Status.ERROR, found, required, where, remedy)
