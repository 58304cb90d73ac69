"""Broken logs of every round: nothing damaged is VALID, and what is whole is."""

from __future__ import annotations

import os
import random
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from pytest_mlperf.core.judge.identify import identify
from pytest_mlperf.core.logs.discover import describe_run
from pytest_mlperf.core.logs.discover import find_runs
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Verdict
from tests.support import dialects
from tests.support import mutations

DETAIL, SUMMARY = "mlperf_log_detail.txt", "mlperf_log_summary.txt"
RESULTS = "MLPERF_OFFICIAL_RESULTS"
"""A folder of official results, or an archive of some, to draw from as well."""
EACH = 120
MOST_REAL = 40


class Base(NamedTuple):
    """A whole log: its place, and its files."""

    folder: Path
    detail: bytes
    summary: bytes

    def judge(self, name: str = "", data: bytes = b"") -> Verdict:
        """Return the verdict with other bytes in one file."""
        whole = {DETAIL: self.detail, SUMMARY: self.summary}
        for file, text in (whole | ({name: data} if name else {})).items():
            (self.folder / file).write_bytes(text)
        return identify(describe_run(self.folder))


def read_base(folder: Path) -> Base:
    return Base(folder, (folder / DETAIL).read_bytes(), (folder / SUMMARY).read_bytes())


def damage(base: Base, rng: random.Random) -> None:
    """Damage one file of a log, judge it, and see that it is not VALID."""
    name = rng.choice((DETAIL, DETAIL, SUMMARY))
    whole = base.detail if name == DETAIL else base.summary
    kinds = mutations.DAMAGE if name == DETAIL else mutations.SUMMARY_DAMAGE
    chosen = rng.choice(kinds)
    data = chosen(whole, rng)
    found = base.judge(name, data)
    before, after = mutations.told(base.detail), mutations.told(data)
    same = data.strip() == whole.strip() or (name == DETAIL and before == after)

    assert found.checks
    assert found.outcome != "VALID" or same, f"{chosen.__name__} of {base.folder}"


@pytest.mark.parametrize("scenario", dialects.SCENARIOS)
@pytest.mark.parametrize("name", dialects.ROUNDS)
def test_nothing_damaged_of_a_round_is_valid(
    tmp_path: Path, name: str, scenario: str
) -> None:
    """The control is VALID under its own round."""
    place = tmp_path / "system" / "resnet50" / scenario / "performance" / "run_1"
    base = read_base(dialects.performance(place, name, scenario))
    control = base.judge()
    rng = random.Random(f"{name} {scenario}")

    assert (control.outcome, control.round) == ("VALID", name), control.explain()
    for _ in range(EACH // len(dialects.SCENARIOS)):
        damage(base, rng)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Base]:
    """Performance runs that MLCommons published, some of each round that is there."""
    given = os.environ.get(RESULTS)
    if not given:
        pytest.skip(f"{RESULTS} names no official results")
    root = tmp_path_factory.mktemp("official")
    if Path(given).is_file():
        with tarfile.open(given) as archive:
            archive.extractall(root, filter="data")
    source = root if Path(given).is_file() else Path(given)
    # Of a compliance run that is not timed no figure is judged.
    runs = [
        run.path
        for run in find_runs(source)
        if run.mode is Mode.PERFORMANCE and not run.test
    ]
    random.Random(0).shuffle(runs)
    bases = []
    for number, path in enumerate(runs[:MOST_REAL]):
        copy = root / "copies" / str(number) / path.relative_to(source)
        copy.mkdir(parents=True)
        for file in (DETAIL, SUMMARY):
            (copy / file).write_bytes((path / file).read_bytes())
        bases.append(read_base(copy))
    return bases


def test_nothing_damaged_of_an_official_result_is_valid(
    official: Sequence[Base],
) -> None:
    """Real logs of whatever rounds are given; each is VALID as it is."""
    rng = random.Random(1)
    for base in official:
        assert base.judge().outcome == "VALID", base.judge().explain()
        for _ in range(100):
            damage(base, rng)
