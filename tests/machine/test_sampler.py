"""The watch over a device: what is written, what is counted, what never fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_mlperf.machine.nvml import Reading
from pytest_mlperf.machine.sampler import FILE
from pytest_mlperf.machine.sampler import Sample
from pytest_mlperf.machine.sampler import Sampler
from pytest_mlperf.machine.sampler import open_reader
from pytest_mlperf.machine.sampler import sample_device
from pytest_mlperf.machine.sampler import summarize
from tests.support.tegrastats_lines import ORIN_AGX


class Ramp:
    """A device that warms by a degree a reading."""

    def __init__(self, readings: int) -> None:
        self.left = readings
        self.temperature = 40.0
        self.closed = threading.Event()
        self.read_all = threading.Event()

    def read(self) -> Reading:
        if not self.left:
            self.read_all.set()
            return Reading()
        self.left -= 1
        self.temperature += 1
        return Reading(temperature_c=self.temperature)

    def close(self) -> None:
        self.closed.set()


def test_samples_are_written_with_their_phase(tmp_path: Path) -> None:
    """One line a reading, whole when the block ends, without what nobody told."""
    source = Ramp(3)
    with sample_device(tmp_path, source, period_s=0.001) as sampler:
        sampler.phase = "run"
        assert source.read_all.wait(60)
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]

    assert [line["temperature_c"] for line in lines] == [41.0, 42.0, 43.0]
    assert set(lines[0]) == {"at_s", "phase", "temperature_c"}
    assert [s.reading.temperature_c for s in sampler.samples] == [41.0, 42.0, 43.0]
    assert source.closed.is_set()


def test_only_the_measured_phase_is_summarized() -> None:
    """What the device did while an engine was built is no fact of the run."""
    with sample_device(Path("/nowhere"), None) as sampler:
        sampler.samples += [
            Sample(0.0, "build", Reading(temperature_c=90.0)),
            Sample(1.0, "run", Reading(temperature_c=50.0)),
        ]

    assert sampler.facts == {"device temperature": "50 to 50 °C, max 50 °C"}


@pytest.mark.parametrize(
    ("source", "name"),
    [("NVML", "GPU 1 (NVML)"), ("tegrastats", "module (tegrastats)")],
)
def test_the_average_power_is_the_measured_phases(source: str, name: str) -> None:
    """Of the samples that have one; a device that never tells has none, not 0 W."""
    watts = [("build", 900.0), ("run", 300.0), ("run", None), ("run", 340.0)]
    samples = [
        Sample(float(at), phase, Reading(power_w=power))
        for at, (phase, power) in enumerate(watts)
    ]
    told, silent = Sampler(source=source), Sampler(source=source)
    told.samples += samples
    silent.samples += samples[:1] + samples[2:3]

    assert told.mean_watts(1) == {name: 320.0}
    assert silent.mean_watts(1) == {}


def test_nothing_to_watch_gives_no_facts_and_no_file(tmp_path: Path) -> None:
    """Without a source the run goes on as if nobody had asked."""
    with sample_device(tmp_path, None) as sampler:
        pass

    assert sampler.facts == {}
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written_fails_no_run(tmp_path: Path) -> None:
    """The samples are there; the file is not."""
    source = Ramp(2)
    with sample_device(tmp_path / "gone", source, period_s=0.001) as sampler:
        assert source.read_all.wait(60)

    assert len(sampler.samples) == 2


def test_error_of_the_run_passes_through(tmp_path: Path) -> None:
    """The watch ends with the run, whatever ended it."""
    source = Ramp(1)
    with pytest.raises(KeyError), sample_device(tmp_path, source, period_s=0.001):
        raise KeyError

    assert source.closed.is_set()


def test_steady_device_is_told_in_four_facts() -> None:
    """Temperature, power against its limit, clock, and that nothing held it back."""
    reading = Reading(65.0, 640.0, 700.0, 1755.0, (), False)

    assert summarize([reading] * 12) == {
        "device temperature": "65 to 65 °C, max 65 °C; steady",
        "device power": "mean 640 W, max 640 W of 700 W",
        "device clock": "mean 1755 MHz, 1755 to 1755",
        "throttling": "none",
    }


def test_device_that_has_not_settled_is_told() -> None:
    """Rising temperature, unstable clocks and their reasons are said in figures."""
    readings = [
        Reading(
            temperature_c=50.0 + n,
            sm_mhz=1000.0 if n % 2 else 1900.0,
            held_back=("thermal slowdown",) if n >= 9 else (),
            locked=True,
        )
        for n in range(12)
    ]

    assert summarize(readings) == {
        "device temperature": "50 to 61 °C, max 61 °C; steady",
        "device clock": "mean 1450 MHz, 1000 to 1900 (set by somebody); unstable: "
        "spread 31%, look at cooling and power",
        "throttling": "thermal slowdown 25% of 12 samples",
    }


@pytest.mark.parametrize(
    ("step", "shows"),
    [
        (lambda n: 2 * n, "not settled, still climbing: 6 °C"),
        (lambda n: -2 * n, "not settled, still falling: 6 °C"),
        (lambda n: 8 * (n % 2), "not settled, unsteady: 8 °C"),
        (lambda n: min(n, 6), "; steady"),
    ],
)
def test_temperature_says_whether_it_climbs(
    step: Callable[[int], float], shows: str
) -> None:
    """A slope is cooling that does not keep up; spikes are no slope."""
    readings = [Reading(temperature_c=60.0 + step(n)) for n in range(12)]

    assert shows in summarize(readings)["device temperature"]


def test_tegrastats_is_watched_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tool is started with the interval, read line by line, and ended."""
    tool = tmp_path / "bin/tegrastats"
    tool.parent.mkdir()
    code = f"echo \"$*\" > '{tmp_path}/args'; echo soup; echo '{ORIN_AGX}'"
    tool.write_text(f"#!/bin/sh\n{code}; exec /bin/sleep 600\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent))
    source = open_reader("", period_s=0.5)
    assert source is not None
    reading = source.read()
    source.close()

    assert (reading.temperature_c, reading.sm_mhz) == (46.343, 1300.0)
    assert (tmp_path / "args").read_text() == "--interval 500\n"
    assert Reading() == source.read()


def test_machine_with_nothing_to_ask_has_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No tool for a CPU, and no NVML that knows the GPU."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert open_reader("") is None
    assert open_reader("GPU-made-up") is None
