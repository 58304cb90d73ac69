"""What LoadGen itself makes of our settings and of the user.conf beside them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.core.plan import count_enough_queries
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from tests.support.doubles import rule_for
from tests.support.run_settings import FAST
from tests.support.run_settings import SCENARIOS
from tests.support.run_settings import plan_resnet50

FROM_CONFIG = """
import json, pathlib, sys
import mlperf_loadgen as lg
from pytest_mlperf.core import rounds
from pytest_mlperf.core.settings import Settings, Seeds
from pytest_mlperf.core.types import Mode, Scenario
from pytest_mlperf.sut.loadgen import loadgen_settings

folder = pathlib.Path(sys.argv[1])
for file in sorted(folder.glob("*.json")):
    fields = json.loads(file.read_text())
    fields["scenario"] = Scenario(fields["scenario"])
    fields["mode"] = Mode(fields["mode"])
    fields["seeds"] = Seeds(**fields["seeds"])
    settings = Settings(**fields)
    conf = file.with_suffix(".conf")
    conf.write_text(settings.user_conf())
    name = settings.scenario.loadgen
    plain = lg.TestSettings()
    code = plain.FromConfig(str(conf), settings.model, name, 2)
    made = loadgen_settings(settings, conf)
    file.with_suffix(".out").write_text(json.dumps({
        "code": code,
        "conf": {k: getattr(plain, k) for k in dir(plain)
                 if isinstance(getattr(plain, k), (int, float))},
        "made": {k: getattr(made, k) for k in dir(made)
                 if isinstance(getattr(made, k), (int, float))},
        "scenario": made.scenario.name, "mode": made.mode.name,
    }))
"""


@pytest.fixture(scope="module")
def understood(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What LoadGen makes of each scenario's settings, by ``scenario-mode``."""
    folder = tmp_path_factory.mktemp("confs")
    for scenario in SCENARIOS:
        for mode in Mode:
            made = plan_resnet50(scenario, mode, available=270, shortening=FAST)
            fields = {
                name: getattr(made, name)
                for name in Settings.__dataclass_fields__
                if name != "seeds"
            }
            fields |= {
                "scenario": scenario.value,
                "mode": mode.value,
                "waived": dict(made.waived),
                "seeds": {"qsl": 2**64 - 1, "sample_index": 2**63, "schedule": 1},
            }
            path = folder / f"{scenario.value}-{mode.value}.json"
            path.write_text(json.dumps(fields))
    # A process of its own: LoadGen keeps a counter of configurations.
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", FROM_CONFIG, str(folder)]
    subprocess.run(command, check=True, timeout=300, env=env)
    return {
        path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.out"))
    }


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_loadgen_reads_every_scenarios_user_conf(
    understood: dict[str, Any],
    scenario: Scenario,
    mode: Mode,
) -> None:
    """FromConfig takes the file and finds the numbers that were written into it."""
    found = understood[f"{scenario.value}-{mode.value}"]
    conf = found["conf"]

    assert found["code"] == 0
    assert conf["min_duration_ms"] == 60_000
    assert count_enough_queries(rule_for(scenario)) == conf["min_query_count"]
    assert conf["performance_sample_count_override"] == 270
    if scenario is Scenario.SERVER:
        assert conf["server_target_qps"] == 123.456
    elif scenario is Scenario.OFFLINE:
        assert conf["offline_expected_qps"] == 123.456
    else:
        prefix = "single" if scenario is Scenario.SINGLE_STREAM else "multi"
        assert conf[f"{prefix}_stream_expected_latency_ns"] == 1_500


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_test_settings_carry_what_the_round_fixes(
    understood: dict[str, Any],
    scenario: Scenario,
    mode: Mode,
) -> None:
    """Seeds of 64 bits, bound, percentile, scenario and mode, LoadGen's own or not."""
    found = understood[f"{scenario.value}-{mode.value}"]
    made = found["made"]

    assert scenario.value == found["scenario"]
    assert mode.loadgen == found["mode"]
    assert made["qsl_rng_seed"] == 2**64 - 1
    assert made["sample_index_rng_seed"] == 2**63
    assert made["schedule_rng_seed"] == 1
    assert made["min_duration_ms"] == 60_000
    assert made["max_duration_ms"] == 0
    assert made["accuracy_log_probability"] == 0.0
    if scenario is Scenario.SERVER:
        assert made["server_target_latency_ns"] == 15_000_000
        assert made["server_target_latency_percentile"] == 0.99
    if scenario is Scenario.MULTI_STREAM:
        assert made["multi_stream_samples_per_query"] == 8
        assert made["multi_stream_target_latency_percentile"] == 0.99
    if scenario is Scenario.SINGLE_STREAM:
        assert made["single_stream_target_latency_percentile"] == 0.9


def test_user_conf_is_a_file_that_python_numbers_do_not_break(tmp_path: Path) -> None:
    """Very small and very large numbers are written as LoadGen parses them."""
    import mlperf_loadgen

    path = tmp_path / "user.conf"
    for qps, latency in ((1e-7, 3), (1e17, 10**12)):
        server = replace(plan_resnet50(Scenario.SERVER), target_qps=qps)
        path.write_text(server.user_conf())
        made = mlperf_loadgen.TestSettings()

        assert made.FromConfig(str(path), "resnet50", "Server", 2) == 0
        assert qps == made.server_target_qps

        single = replace(
            plan_resnet50(Scenario.SINGLE_STREAM), expected_latency_ns=latency
        )
        path.write_text(single.user_conf())

        assert made.FromConfig(str(path), "resnet50", "SingleStream", 2) == 0
        assert latency == made.single_stream_expected_latency_ns
