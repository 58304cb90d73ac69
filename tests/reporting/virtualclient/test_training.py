"""Metrics of BERT training, out of what a run prints."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from pytest_mlperf.commands import main
from pytest_mlperf.reporting.virtualclient.training import TrainingConfig
from pytest_mlperf.reporting.virtualclient.training import TrainingLog
from pytest_mlperf.reporting.virtualclient.training import compute_score_s
from pytest_mlperf.reporting.virtualclient.training import read_training_log

STDOUT = """\
{'global_steps': 5692, 'eval_loss': 1.31, 'eval_mlm_accuracy': 0.7199808359146118}
0: a rank speaks
{'global_steps': 6027, 'eval_loss': 1.30, 'eval_mlm_accuracy': 0.7205085754394531}
(1, 6027.0) {'final_loss': 0.0}
{'e2e_time': 1521.5, 'training_sequences_per_second': 1990.25, 'final_loss': 0.0, \
'raw_train_time': 1508.25}
"""


def mllog(key: str, time_ms: int, **metadata: object) -> str:
    """Return a line as a training run writes it."""
    values = {
        "namespace": "", "time_ms": time_ms, "event_type": "INTERVAL_START", "key": key,
        "value": None, "metadata": metadata,
    }  # fmt: skip
    return f":::MLLOG {json.dumps(values)}\n"


def write_log(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_stdout_has_five_metrics(tmp_path: Path) -> None:
    """The accuracy is the last one, which the final loss follows."""
    log = read_training_log(write_log(tmp_path / "out.log", STDOUT))

    assert log.values == {
        "eval_mlm_accuracy": 0.7205085754394531, "e2e_time": 1521.5,
        "training_sequences_per_second": 1990.25, "final_loss": 0.0,
        "raw_train_time": 1508.25,
    }  # fmt: skip
    assert log.time_to_train_s is None


def test_a_run_s_log_has_its_time_to_train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By mlperf-logging; the configuration names the metrics' scenario."""
    pytest.importorskip("mlperf_logging")
    text = mllog("run_start", 1000) + STDOUT
    text += f"3: {mllog('run_stop', 1_501_500, status='success')}"
    path = write_log(tmp_path / "result_0.txt", text)
    command = ["report", "virtualclient", str(path), "--format", "json"]
    assert main.main([*command, "--training-config", "config_A_1x8x45x1.sh"]) == 0
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    found = {line["metricName"]: line for line in lines}

    assert found["time_to_train"]["metricValue"] == 1500.5
    assert found["e2e_time"]["metricUnit"] == "s"
    assert found["eval_mlm_accuracy"]["metricUnit"] == ""
    assert {line["scenario"] for line in found.values()} == {
        "training-mlperf-bert-batchsize-45-gpu-8"
    }


def test_another_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its name."""
    path = write_log(tmp_path / "x.log", "hello\n")

    assert main.main(["report", "virtualclient", str(path)]) == 2
    assert f"{path}: no training log" in capsys.readouterr().err


def test_a_run_without_an_end_is_the_slowest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of the public results has such a log among its ten."""
    pytest.importorskip("mlperf_logging")
    start, paths = mllog("run_start", 0), []
    for number, seconds in enumerate([1000, 2000, 3000, None]):
        end = mllog("run_stop", (seconds or 0) * 1000, status="success")
        text = start + (end if seconds else STDOUT)
        paths.append(write_log(tmp_path / f"result_{number}.txt", text))
    command = ["report", "virtualclient", *map(str, paths), "--format", "json"]
    assert main.main(command) == 0
    said = capsys.readouterr()
    found = [json.loads(line) for line in said.out.splitlines()]

    assert found[-1]["metricName"] == "time_to_train_score"
    assert found[-1]["metricValue"] == 2500
    assert f"{paths[-1]}: the run did not reach its target" in said.err


def make_log(seconds: float, *, is_success: bool = True) -> TrainingLog:
    return TrainingLog(Path(), {}, seconds, is_success)


@pytest.mark.parametrize(
    ("seconds", "failed", "score"),
    [
        ([5, 1, 2, 3, 100], 0, 10 / 3),
        ([5, 1, 2, 3], 1, 10 / 3),
        ([1, 2, 3], 2, None),
        ([1, 2], 0, None),
    ],
)
def test_the_score_leaves_out_the_fastest_and_the_slowest(
    seconds: list[float], failed: int, score: float | None
) -> None:
    """A run that missed its target is the slowest; two of them have no score."""
    logs = [make_log(value) for value in seconds]
    logs += [make_log(0.1, is_success=False)] * failed

    assert compute_score_s(logs) == (score and pytest.approx(score))
    assert not math.isinf(compute_score_s(logs) or 0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("config_A30_1x2x224x14.sh", ("A30", 1, 2, 224, 14, "")),
        ("config_DGXA100_1x8x56x1.sh", ("DGXA100", 1, 8, 56, 1, "")),
        ("config_DGXA100_512x8x2x1_pack.sh", ("DGXA100", 512, 8, 2, 1, "pack")),
    ],
)
def test_a_configuration_s_name_is_read(
    name: str, expected: tuple[str, int, int, int, int, str]
) -> None:
    """Nodes, GPUs of a node, batch of a GPU, accumulation."""
    assert TrainingConfig.parse(name) == TrainingConfig(*expected)


def test_a_common_file_is_no_configuration() -> None:
    """``config_DGXA100_common.sh`` has no numbers."""
    with pytest.raises(ValueError, match="NODESxGPUSxBATCHxACCUMULATION"):
        TrainingConfig.parse("config_DGXA100_common.sh")
