"""The default precision gives way to a more exact one that is faster, and says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mlperf.api import registry
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.verdict import PRECISION_CHOSEN
from pytest_mlperf.engines.onnxruntime import ONNXRUNTIME
from pytest_mlperf.run import precision as precision_module
from pytest_mlperf.run.engine_builds import EngineBuilds
from pytest_mlperf.runner.messages import Task
from tests.support import doubles

PLAIN = ("AVX2", "AVX-512")


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few turns are enough: what is timed here sleeps."""
    monkeypatch.setattr(precision_module, "MOST_TURNS", 5)


def make_task(folder: Path, name: str, *, chosen: str | None = None) -> Task:
    """Return a task in int8: the default, or the user's choice."""
    task = doubles.make_task(folder, tuning=Tuning(precision=chosen))
    provider = registry.reference("engine", f"tests.support.precisions:{name}")
    return replace(task, provider=provider, precision=chosen or "int8")


def choose(task: Task, sets: tuple[str, ...] = PLAIN) -> tuple[str, dict[str, str]]:
    """Return the precision that a fresh process runs, and what it says of it."""
    builds = EngineBuilds(lambda: None, sets)
    workload = doubles.Echo(doubles.numbers())
    task = builds.choose_precision(task, workload)
    return task.precision, builds.describe(builds.build(task, workload).build)


@pytest.mark.parametrize(
    ("name", "chosen", "sets", "expected"),
    [
        ("SLOW_INT8", None, PLAIN, "fp32"),
        ("FAST_INT8", None, PLAIN, "int8"),
        ("SLOW_INT8", "int8", PLAIN, "int8"),
        ("SLOW_INT8", None, (*PLAIN, "AVX-512 VNNI"), "int8"),
        ("SLOW_INT8", None, ("NEON", "NEON dot product"), "int8"),
        ("ON_GPU", None, PLAIN, "int8"),
    ],
)
def test_the_faster_precision_is_run_where_nobody_chose(
    tmp_path: Path, name: str, chosen: str | None, sets: tuple[str, ...], expected: str
) -> None:
    """On a CPU without instructions made for int8; elsewhere nothing is compared."""
    found, _ = choose(make_task(tmp_path, name, chosen=chosen), sets)

    assert found == expected


def test_the_choice_is_made_once_and_explained(tmp_path: Path) -> None:
    """A later process, and a slower spell of it, has the same: the build stays one."""
    task = make_task(tmp_path, "SLOW_INT8")
    first, texts = choose(task)
    (kept,) = (tmp_path / "cache/precisions").glob("*.json")
    kept.write_text(kept.read_text().replace("in turn", "earlier"))
    again, later = choose(task)

    assert (first, again) == ("fp32", "fp32")
    assert texts[PRECISION_CHOSEN].startswith("fp32: a batch of 4 took int8 3")
    assert texts[PRECISION_CHOSEN].endswith(" ms in turn")
    assert "earlier" in later[PRECISION_CHOSEN]
    assert texts["instruction sets"] == (
        "AVX2, AVX-512; none made for int8 (VNNI, AMX, dot product)"
    )
    for damaged in ("half a f", '{"precision": "fp8", "why": ""}', "[1]"):
        kept.write_text(damaged)
        assert choose(task)[0] == "fp32"


def test_without_a_cache_to_keep_a_choice_in_the_default_is_run(
    tmp_path: Path,
) -> None:
    """Else a performance and an accuracy run could be of two builds. A file in the
    folder's place stands for a cache that can only be read.
    """
    task = make_task(tmp_path, "SLOW_INT8")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/precisions").write_text("")
    found, texts = choose(task)

    assert found == "int8"
    assert texts[PRECISION_CHOSEN].startswith("int8: no comparison can be kept in ")


def test_onnxruntime_compares_what_it_quantizes() -> None:
    """The 99.9 % targets are fp32 from the start."""
    assert ONNXRUNTIME.more_exact == {"int8": ("fp32",)}
