"""``pytest-mlperf report virtualclient PATH…``: metrics by VirtualClient's names."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_mlperf.commands.shared.output import print_text
from pytest_mlperf.reporting.results import FILE
from pytest_mlperf.reporting.results import find_file
from pytest_mlperf.reporting.results import read_results
from pytest_mlperf.reporting.virtualclient import nvidia
from pytest_mlperf.reporting.virtualclient import session
from pytest_mlperf.reporting.virtualclient.metric import Generation
from pytest_mlperf.reporting.virtualclient.metric import VirtualClientMetric
from pytest_mlperf.reporting.virtualclient.table import FORMATS
from pytest_mlperf.reporting.virtualclient.training import TrainingConfig
from pytest_mlperf.reporting.virtualclient.training import compute_score_s
from pytest_mlperf.reporting.virtualclient.training import read_training_log

KIND = "virtualclient"
ALL = "all"
TRAINING = "training-mlperf-bert"


def add_kind(kinds: Any) -> None:
    """Add the kind to argparse's sub-parsers."""
    text = "metrics by VirtualClient's names, of sessions, of NVIDIA's harness's files "
    text += "and of BERT's training logs"
    parser = kinds.add_parser(KIND, help=text, description=text)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH",
                        help="a session's folder or results.jsonl; a folder with "
                        f"{nvidia.ACCURACY}, {nvidia.PERFORMANCE} or {nvidia.METADATA} "
                        "anywhere below; a training log, of several the score too"
                        )  # fmt: skip
    parser.add_argument("--names", choices=["1", "2", "3", ALL], default=ALL,
                        help="generation of names: 1 modes, 2 values, 3 short names "
                        "with metadata (default: all)")  # fmt: skip
    parser.add_argument("--format", choices=list(FORMATS), default="markdown",
                        help="table over repeats, or json: a line a value")  # fmt: skip
    parser.add_argument("--training-config", type=parse_config, metavar="NAME",
                        help="of training logs, config_DGXA100_1x8x56x1.sh: names the "
                        "metrics' scenario")  # fmt: skip
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write it (default: standard output)",
    )


def parse_config(name: str) -> TrainingConfig:
    """Return a configuration; argparse's error for another grammar."""
    try:
        return TrainingConfig.parse(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(arguments: argparse.Namespace) -> int:
    """Write the metrics; 2 where there are none, or where a file cannot be read."""
    config = arguments.training_config
    model = config.model if config else TRAINING
    try:
        metrics = list(read_metrics(arguments.paths, model))
    except (OSError, ValueError, ModuleNotFoundError) as error:
        return _refuse(str(error))
    if arguments.names != ALL:
        chosen = Generation(int(arguments.names))
        metrics = [one for one in metrics if one.generation is chosen]
    if not metrics:
        return _refuse(f"no metric in {', '.join(map(str, arguments.paths))}")
    text = FORMATS[arguments.format](metrics)
    if arguments.output is None:
        print_text(text.rstrip("\n"))
        return 0
    arguments.output.write_text(text, encoding="utf-8", newline="")
    print_text(f"report: {arguments.output}")
    return 0


def read_metrics(paths: Sequence[Path], model: str) -> Iterator[VirtualClientMetric]:
    """Yield the metrics of sessions, of NVIDIA's files and of training logs.

    ``model``: the scenario of training's metrics. ``ValueError`` for what is none of
    them.
    """
    logs = []
    for path in paths:
        results = find_file(path)
        if results.name == FILE and results.is_file():
            found = read_results(results, allow_partial=True)
            for run in session.list_results(found):
                yield from run.list_metrics()
        elif path.is_dir() or path.name.endswith(".json"):
            files = nvidia.find_summaries(path) if path.is_dir() else [path]
            if not files:
                names = f"{nvidia.ACCURACY}, {nvidia.PERFORMANCE}, {nvidia.METADATA}"
                raise ValueError(f"{path}: no {FILE} and none of {names} below it")
            for file in files:
                for one in nvidia.read_summary(file):
                    yield from one.list_metrics()
        else:
            logs.append(read_training_log(path))
            if logs[-1].is_success is False:
                text = "the run did not reach its target; it counts as the slowest"
                print_text(f"{path}: {text}", error=True)
            yield from logs[-1].list_metrics(model)
    if (score_s := compute_score_s(logs)) is not None:
        yield VirtualClientMetric(model, "time_to_train_score", score_s, "s")


def _refuse(text: str) -> int:
    print_text(f"pytest-mlperf report {KIND}: {text}", error=True)
    return 2
