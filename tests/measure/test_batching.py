"""Windows of static batching, and the tables that are made of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence

import pytest

from pytest_mlperf.config.load_options import LoadOptions
from pytest_mlperf.core.latency_breakdown import CLIENT_WAIT
from pytest_mlperf.core.latency_breakdown import COLUMNS
from pytest_mlperf.measure.batching import LEAST_REQUESTS
from pytest_mlperf.measure.batching import MOST_WINDOWS
from pytest_mlperf.measure.batching import is_stable
from pytest_mlperf.measure.batching import measure_load
from pytest_mlperf.measure.batching import search_concurrency
from pytest_mlperf.measure.deployment import format_title
from pytest_mlperf.reporting.deployment_table import MICROSECONDS
from pytest_mlperf.reporting.deployment_table import MILLISECONDS
from pytest_mlperf.reporting.deployment_table import LoadFigures
from pytest_mlperf.reporting.deployment_table import format_csv
from pytest_mlperf.reporting.deployment_table import format_markdown
from pytest_mlperf.runner.batch_times import BatchLoad
from pytest_mlperf.runner.batch_times import BatchTimes

SEEDS_COLUMNS = [
    "Batch", "Concurrency", "Inferences/Second", "Client Send (ms)",
    "Network+Server Send/Recv (ms)", "Server Queue (ms)", "Server Compute Input (ms)",
    "Server Compute Infer (ms)", "Server Compute Output (ms)", "Client Recv (ms)",
    "p50 latency (ms)", "p90 latency (ms)", "p95 latency (ms)", "p99 latency (ms)",
    "avg latency (ms)",
]  # fmt: skip


def repeat(windows: Sequence[float], counts: list[int]) -> object:
    """Return a measurement whose windows take these seconds a request, in turn."""
    turns = iter([windows[0], *windows, *[windows[-1]] * MOST_WINDOWS])

    def time(load: BatchLoad) -> BatchTimes:
        counts.append(load.count)
        return BatchTimes((next(turns),) * load.count)

    return time


@pytest.mark.parametrize(
    ("windows", "used", "stable"),
    [
        ([0.1, 0.1, 0.1], 3, True),
        ([0.4, 0.2, 0.1, 0.1, 0.105], 5, True),
        ([0.1, 0.1, 0.13, 0.13, 0.13], 5, True),
        ([0.1, 0.2] * 5, MOST_WINDOWS, False),
    ],
)
def test_windows_are_measured_until_three_agree(
    windows: list[float], used: int, stable: bool
) -> None:
    """Within 10 %, ten at most; the figures are of the last three."""
    counts: list[int] = []
    found = measure_load(repeat(windows, counts), 8)  # type: ignore[arg-type]

    assert len(counts) == 1 + used
    assert counts[0] == LEAST_REQUESTS
    assert found.is_stable == stable
    last = windows[used - 3 : used]
    assert found.per_s == pytest.approx(8 * 3 / sum(last))
    assert found.percentiles_ms[99] == pytest.approx(max(last) * 1e3)


@pytest.mark.parametrize(
    ("seconds", "count"), [(0.001, 50), (0.25, 20), (9.0, LEAST_REQUESTS)]
)
def test_a_window_has_fifty_requests_or_five_seconds(
    seconds: float, count: int
) -> None:
    """Of slow requests it still has three."""
    counts: list[int] = []
    measure_load(repeat([seconds] * 3, counts), 1)  # type: ignore[arg-type]

    assert counts[1:] == [count] * 3


def test_more_requests_are_outstanding_until_that_brings_nothing() -> None:
    """A server that answers four at a time in 10 ms; a window has eight for each."""
    asked: list[int] = []
    options = LoadOptions(measurement_interval=50)

    def measure(outstanding: int) -> LoadFigures:
        latency = 0.01 * max(1, outstanding / 4)

        def time(load: BatchLoad) -> BatchTimes:
            asked.append(load.count)
            elapsed = load.count * latency / outstanding
            return BatchTimes((latency,) * load.count, elapsed_s=elapsed)

        return measure_load(time, 1, options, outstanding)

    found = search_concurrency(measure, options)

    assert [one.concurrency for one in found] == [1, 2, 4, 8]
    rates = [one.per_s for one in found]
    assert rates == pytest.approx([100, 200, 400, 400])
    assert found[-1].percentiles_ms[99] == pytest.approx(20)
    assert min(asked[-3:]) == 64


def test_less_than_three_windows_are_not_stable() -> None:
    """Whatever they say."""
    window = BatchTimes((0.1,))

    assert [is_stable([window] * n) for n in range(5)] == [False] * 3 + [True] * 2


def test_the_steps_sum_up_to_the_average() -> None:
    """An engine without a server only computes."""
    steps = dict.fromkeys((CLIENT_WAIT, *COLUMNS), 1000.0)
    served = measure_load(lambda one: BatchTimes((0.008,) * one.count, steps), 1)
    bare = measure_load(lambda one: BatchTimes((0.008,) * one.count), 1)

    assert list(served.steps_ms) == list(COLUMNS)
    assert served.average_ms == pytest.approx(8)
    assert served.steps_ms["Client Send"] == 2
    assert bare.steps_ms["Server Compute Infer"] == bare.average_ms == pytest.approx(8)


def test_the_table_has_the_columns_of_nvidias() -> None:
    """As CSV, and as Markdown under a configuration."""
    steps = dict.fromkeys(COLUMNS, 0.5)
    quantiles = {50: 3.0, 90: 4.0, 95: 5.0, 99: 6.0}
    figures = LoadFigures(16, 2128.04, steps, quantiles, True)
    rows = list(csv.reader(format_csv([figures]).splitlines()))
    text = format_markdown("Offline: bert", {"Precision": "FP16"}, [figures])

    assert list(MILLISECONDS.head) == rows[0] == SEEDS_COLUMNS
    assert rows[1] == [
        "16", "1", "2128.0", *["0.500"] * 7, "3.000", "4.000", "5.000", "6.000", "3.500"
    ]  # fmt: skip
    lines = text.splitlines()
    assert lines[0] == "#### Offline: bert"
    assert lines[4] == "| Precision      | FP16            |"
    assert [cell.strip() for cell in lines[8].strip("|").split("|")] == SEEDS_COLUMNS
    assert {line.count("|") for line in lines[8:]} == {len(SEEDS_COLUMNS) + 1}


def test_a_title_is_worded_as_nvidias() -> None:
    """Of a GPU with the accelerator, of a CPU without one."""
    rows = {"Backend": "ONNX Runtime", "Precision": "FP16"}
    accelerated = {
        "GPU": "NVIDIA A30",
        **rows,
        "Backend accelerator": "NVIDIA TensorRT",
    }
    plain = {"CPU": "AMD EPYC", **rows, "Backend accelerator": "-"}

    assert format_title("bert-99", accelerated) == (
        "Offline: NVIDIA A30, ONNX Runtime with FP16, Backend accelerator TensorRT "
        "(bert-99)"
    )
    assert format_title("bert-99", plain) == (
        "Offline: AMD EPYC, ONNX Runtime with FP16 (bert-99)"
    )


def test_a_recommenders_table_is_in_microseconds() -> None:
    """The columns of NVIDIA's recommender guide name no unit; 4.01e+05 is its rate."""
    steps = {**dict.fromkeys(COLUMNS, 0.0), "Server Compute Infer": 0.632}
    quantiles = {50: 0.624, 90: 0.661, 95: 0.669, 99: 0.738}
    figures = LoadFigures(256, 401_234.0, steps, quantiles, True)

    head, row = csv.reader(format_csv([figures], MICROSECONDS).splitlines())

    assert head == [name.removesuffix(" (ms)") for name in SEEDS_COLUMNS]
    assert row == [
        "256", "1", "4.01e+05", *["0"] * 4, "632", "0", "0",
        "624", "661", "669", "738", "632",
    ]  # fmt: skip
    assert "Times in microseconds" in format_markdown("x", {}, [figures], MICROSECONDS)
