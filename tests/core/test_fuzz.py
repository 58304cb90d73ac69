"""Fourteen thousand broken logs: no crash, no hang, and nothing damaged is VALID.

``MLPERF_FUZZ_BLOCKS=100 pytest tests/core/test_fuzz.py`` makes half a million.
"""

from __future__ import annotations

import os
import random
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.core import rounds
from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.judge.judge import judge
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Verdict
from tests.support import bare_loadgen
from tests.support import log_values
from tests.support import logs
from tests.support import mutations
from tests.support.cells import cell_of
from tests.support.judging import SCENARIOS
from tests.support.judging import fast
from tests.support.judging import verdict
from tests.support.mutations import Change

DETAIL, SUMMARY = "mlperf_log_detail.txt", "mlperf_log_summary.txt"
BLOCKS = int(os.environ.get("MLPERF_FUZZ_BLOCKS", "2"))
EACH = 5000

TABLE = rounds.get("v5.1")
RULE = TABLE.find("deepseek-r1", "", Scenario.SERVER)
CELL = cell_of("deepseek-r1", "", Scenario.SERVER, "null", "v5.1")


OF_SAMPLES = re.compile(r"result_(min|max|mean|[\d.]+_percentile)_latency_ns")
NOTHING = re.compile(r"(?!)")


class Base:
    """A whole log, and how it is judged."""

    def __init__(self, folder: Path, scenario: str, seconds: int = 0) -> None:
        self.folder = folder
        self.scenario = scenario
        self.context = Context(settings=fast(scenario, seconds)) if seconds else None
        self.whole = {name: (folder / name).read_bytes() for name in (DETAIL, SUMMARY)}
        said = mutations.told(self.whole[DETAIL]) or {}
        # MultiStream is judged by its queries; what single samples took is beside it.
        aside = OF_SAMPLES if scenario == "MultiStream" else NOTHING
        self.said = {key: said[key] for key in said if not aside.fullmatch(key)}

    def judge(self, name: str, data: bytes) -> Verdict:
        """Judge the log with other bytes in one of its files."""
        path = self.folder / name
        path.write_bytes(data)
        try:
            return self.verdict()
        finally:
            path.write_bytes(self.whole[name])

    def verdict(self) -> Verdict:
        """Judge what is in the folder."""
        if self.scenario == "tokens":
            assert RULE is not None
            mode, context = Mode.PERFORMANCE, Context()
            return judge(self.folder, CELL, mode, context)
        return verdict(self.folder, self.scenario, context=self.context)


def memory(name: str) -> Path:
    """Return a folder in memory, where there is one: a file is written per input."""
    root = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path()  # noqa: S108
    return root / f"mlperf-fuzz-{os.getpid()}" / name


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Base]]:
    """Logs as a submission has them, a token run's, and those of real short runs."""
    root = memory("logs")
    if not root.is_absolute():
        root = tmp_path_factory.mktemp("logs")
    found = [Base(logs.performance(root / name, name), name) for name in SCENARIOS]
    tokens = logs.performance(
        root / "tokens",
        "Server",
        latencies=logs.rising(2000, 3_000_000_000, 15_000_000_000),
        tokens=log_values.Tokens(2_000_000_000, 80_000_000, 3886),
        target_ns=0,
        seeds="v5.1",
        loaded=4388,
        change={
            "effective_sample_concatenate_permutation": True,
            "qsl_reported_total_count": 4388,
        },
    )
    found.append(Base(tokens, "tokens"))
    for name in SCENARIOS:
        run = bare_loadgen.run_in_time(root / "real" / name, name)
        found.append(Base(run, name, seconds=1))
    yield found
    if root.parent.name.startswith("mlperf-fuzz"):
        shutil.rmtree(root.parent)


@pytest.fixture(scope="module")
def outcomes(bases: Sequence[Base]) -> None:
    """Every base is VALID: a mutation alone can make it anything else."""
    for base in bases:
        assert base.verdict().outcome == "VALID", base.verdict().explain()


def sound(found: Verdict) -> None:
    """A verdict is whole: it says where, and no check fell over its own feet."""
    assert found.checks
    for check in found.checks:
        assert check.found
        assert "cannot be reckoned with" not in check.found


def attack(base: Base, rng: random.Random) -> str:
    """Change one file of a log somehow, judge it, and return what was done."""
    kind = rng.choices(("any", "damage", "harmless"), (60, 36, 4))[0]
    name = DETAIL if rng.random() < 0.7 else SUMMARY
    operators: dict[tuple[str, str], Sequence[Change]] = {
        ("any", DETAIL): mutations.ANY,
        ("any", SUMMARY): mutations.ANY,
        ("damage", DETAIL): mutations.DAMAGE,
        ("damage", SUMMARY): mutations.SUMMARY_DAMAGE,
        ("harmless", DETAIL): mutations.HARMLESS,
        ("harmless", SUMMARY): mutations.SUMMARY_HARMLESS,
    }
    whole, data = base.whole[name], base.whole[name]
    chosen = rng.choice(operators[kind, name])
    data = chosen(data, rng)
    for _ in range(rng.choice((0, 0, 1, 3)) if kind == "any" else 0):
        data = rng.choice(mutations.ANY)(data or whole, rng)
    found = base.judge(name, data)
    story = f"{kind} {chosen.__name__} of {base.folder} {name}"
    sound(found)
    if kind == "harmless":
        assert found.outcome == "VALID", f"{story}: {found.explain()}"
    elif kind == "damage":
        same = data.strip() == whole.strip()
        if name == DETAIL and base.scenario == "MultiStream":
            same = mutations.told(data, base.said) == base.said
        assert found.outcome != "VALID" or same, story
    elif found.outcome == "VALID" and name == DETAIL:
        is_same = base.said == mutations.told(data, base.said)
        assert is_same, f"{story}: {show_changes(whole, data)}"
    return kind


def show_changes(whole: bytes, data: bytes) -> list[bytes]:
    """Return the first lines that were added, changed or repeated."""
    before, after = Counter(whole.split(b"\n")), Counter(data.split(b"\n"))
    return [line[:300] for line in (after - before)][:5]


@pytest.mark.usefixtures("outcomes")
@pytest.mark.parametrize("block", range(BLOCKS))
def test_nothing_damaged_is_valid(bases: Sequence[Base], block: int) -> None:
    """What is VALID says what the whole log said; harmless changes change nothing."""
    rng = random.Random(block)
    done = [attack(rng.choice(bases), rng) for _ in range(EACH)]

    assert len(done) == EACH
    assert set(done) == {"any", "damage", "harmless"}


@pytest.mark.usefixtures("outcomes")
@given(data=st.data())
@settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_bytes_make_the_judge_raise(
    bases: Sequence[Base], data: st.DataObject
) -> None:
    """Bytes that hypothesis puts anywhere: there is a verdict, and it is whole."""
    base = data.draw(st.sampled_from(bases))
    name = data.draw(st.sampled_from([DETAIL, SUMMARY]))
    whole = base.whole[name]
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 200)))
    middle = data.draw(st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
    changed = whole[:start] + middle + whole[end:]
    found = base.judge(name, changed)
    sound(found)

    assert (
        name == SUMMARY
        or found.outcome != "VALID"
        or (base.said == mutations.told(changed, base.said))
    )


ANSWERS = ("mlperf_log_accuracy.json", "accuracy.txt", DETAIL, SUMMARY)


@pytest.mark.parametrize("name", ANSWERS)
def test_no_accuracy_folder_makes_the_judge_raise(tmp_path: Path, name: str) -> None:
    """Another accuracy log than the one that was scored is never VALID."""
    folder = logs.accuracy(tmp_path, text="accuracy=79.2%, good=1, total=40")
    context = Context(reference={"acc": 80.0}, dataset_total=40)
    whole = (folder / name).read_bytes()
    rng = random.Random(name)
    for _ in range(1000):
        data = rng.choice((*mutations.ANY, mutations.cut))(whole, rng)
        (folder / name).write_bytes(data)
        found = verdict(folder, "Offline", Mode.ACCURACY, context)
        sound(found)

        assert found.outcome != "VALID" or name != ANSWERS[0] or data == whole
