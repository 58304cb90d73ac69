"""Real runs of LoadGen's bare binding, without anything of this project."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.pauses import TICK

SCRIPT = """
import array, json, sys, time
import mlperf_loadgen as lg

folder, model, scenario, mode, attributes = json.loads(sys.argv[1])
settings = lg.TestSettings()
settings.FromConfig("", model, scenario, 0)
settings.scenario = getattr(lg.TestScenario, scenario)
settings.mode = getattr(lg.TestMode, mode)
for name, value in attributes.items():
    setattr(settings, name, value)

def issue(queries):
    time.sleep(0.001 if "Stream" in scenario else 0)
    if scenario == "Offline" and mode == "PerformanceOnly":
        time.sleep(settings.min_duration_ms / 1000)
    answers = [lg.QuerySampleResponse(q.id, ADDRESS, 4) for q in queries]
    lg.QuerySamplesComplete(answers)

ANSWER = array.array("B", b"0123")
ADDRESS = ANSWER.buffer_info()[0]
sut = lg.ConstructSUT(issue, lambda: None)
qsl = lg.ConstructQSL(1024, 1024, lambda indices: None, lambda indices: None)
log = lg.LogSettings()
log.enable_trace = False
log.log_output.outdir = folder
watch = begin_watch(folder)
lg.StartTestWithLogSettings(sut, qsl, settings, log, "")
end_watch(watch)
"""


def run(folder: Path, scenario: str, mode: str, **attributes: Any) -> Path:
    """Run the bare LoadGen binding on an instant SUT of 1024 samples, as resnet50.

    One second and 1000 queries a second unless ``attributes`` of TestSettings say
    other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "min_duration_ms": 1000,
        "server_target_qps": 1000.0,
        "offline_expected_qps": 1000.0,
        "single_stream_expected_latency_ns": 1_000_000,
        "multi_stream_expected_latency_ns": 1_000_000,
        "min_query_count": 662 if scenario == "MultiStream" else 100,
        **attributes,
    }
    job = json.dumps([str(folder), "resnet50", scenario, mode, settings])
    subprocess.run([sys.executable, "-c", TICK + SCRIPT, job], check=True, timeout=300)
    return folder


def run_in_time(folder: Path, scenario: str, **attributes: Any) -> Path:
    """Make a real performance run that answers every query within Server's bound.

    A busy machine is late now and then, which is not what the caller is about: such a
    run is repeated, five times at most.
    """
    for _ in range(5):
        run(folder, scenario, "PerformanceOnly", **attributes)
        detail = (folder / "mlperf_log_detail.txt").read_text(encoding="utf-8")
        late = re.search(r'"result_overlatency_query_count", "value": (\d+)', detail)
        if late is None or late[1] == "0":
            break
    return folder
