"""Whether a GPU's memory is free again, asked of a machine that is told."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_mlperf.machine import gpu_memory
from pytest_mlperf.machine.gpu_memory import SLACK_MIB
from pytest_mlperf.machine.gpu_memory import describe_growth
from pytest_mlperf.machine.gpu_memory import wait_until_free

BEFORE = {"GPU-a": 4, "GPU-b": 1000}


def told(*readings: Mapping[str, int]) -> Callable[[], Mapping[str, int]]:
    """Return a reader that says these in turn, and the last for ever."""
    left = list(readings)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def test_memory_that_comes_free_a_little_later_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The driver takes its time after a process has ended."""
    monkeypatch.setattr(gpu_memory, "POLL_S", 0.001)
    beats: list[int] = []
    growth = {"GPU-a": 70_000, "GPU-b": 1000}
    free, seen = wait_until_free(
        BEFORE, told(growth, growth, BEFORE), beat=lambda: beats.append(1)
    )

    assert free
    assert "free again" in seen
    assert len(beats) == 2


def test_memory_that_stays_in_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which GPU, and how much."""
    monkeypatch.setattr(gpu_memory, "POLL_S", 0.001)
    growth = {"GPU-a": 70_004, "GPU-b": 1000 + SLACK_MIB}
    free, seen = wait_until_free(BEFORE, told(growth), wait_s=0.01)

    assert not free
    assert "GPU-a holds 70,000 MiB more" in seen
    assert "GPU-b" not in seen


def test_a_machine_without_nvidia_smi_says_that_nobody_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No proof is claimed where there is none."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert gpu_memory.read_memory_in_use() is None
    assert wait_until_free(gpu_memory.read_memory_in_use()) == (
        True,
        "not looked at: no nvidia-smi",
    )


def test_nvidia_smis_table_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small program of its name says what the real one does."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU-a, 4'\necho 'GPU-b, 1000'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert gpu_memory.read_memory_in_use() == BEFORE


def test_what_a_server_held_is_told_beside_its_end() -> None:
    """Only GPUs that it used; nothing where nobody can look."""
    now = {"GPU-a": 70_004, "GPU-b": 900}

    assert describe_growth(BEFORE, now) == "it held 70,000 MiB of GPU-a"
    assert describe_growth(BEFORE, BEFORE) == ""
    assert "" == describe_growth(None, now) == describe_growth(BEFORE, None)
