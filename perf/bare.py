"""The LoadGen binding in a bare 20-line loop: what the suite is measured against.

Run in a process of its own, ``python -m perf.bare SCENARIO FOLDER …``, with
nothing of pytest_mlperf in it. Every query is answered whole, inside the callback,
with one constant answer.
"""

from __future__ import annotations

import argparse
import gc
from pathlib import Path
from typing import Any

import mlperf_loadgen as lg
import numpy as np


def run_loop(settings: Any, folder: str, samples: int) -> None:
    """Run LoadGen over the shortest SUT that Python can express."""
    answer = np.zeros(1, np.float32)
    address, size = answer.ctypes.data, answer.nbytes

    def issue(ids: list[int], indices: list[int]) -> None:  # noqa: ARG001 - LoadGen's signature
        lg.QuerySamplesComplete([lg.QuerySampleResponse(i, address, size) for i in ids])

    sut = lg.ConstructFastSUT(issue, lambda: None)
    qsl = lg.ConstructQSL(samples, samples, lambda _: None, lambda _: None)
    log = lg.LogSettings()
    log.log_output.outdir = folder
    log.enable_trace = False
    lg.StartTestWithLogSettings(sut, qsl, settings, log, "")
    lg.DestroyQSL(qsl)
    lg.DestroyFastSUT(sut)


def make_settings(args: argparse.Namespace) -> Any:
    """Return the TestSettings that the suite uses for the same run."""
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, args.scenario)
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = int(args.seconds * 1000)
    settings.min_query_count = 1
    settings.server_target_qps = settings.offline_expected_qps = args.rate
    settings.server_target_latency_ns = args.bound_ns
    settings.single_stream_expected_latency_ns = args.latency_ns
    settings.multi_stream_expected_latency_ns = args.latency_ns
    return settings


def main() -> None:
    """Run once; LoadGen's logs are the output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario")
    parser.add_argument("folder")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--bound-ns", type=int, default=15_000_000)
    parser.add_argument("--latency-ns", type=int, default=3000)
    parser.add_argument("--quiet", action="store_true", help="no garbage collection")
    args = parser.parse_args()
    if args.quiet:
        gc.collect()
        gc.freeze()
        gc.disable()
    Path(args.folder).mkdir(parents=True, exist_ok=True)  # LoadGen dies without it
    run_loop(make_settings(args), args.folder, args.samples)


if __name__ == "__main__":
    main()
