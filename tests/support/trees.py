"""Whole submissions made of small logs: resnet50 and bert on an edge system.

Independent of what the suite writes, so that the check is tested against the
official layout and not against its own writer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pytest_mlperf.core import rounds
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.submission.description import describe
from pytest_mlperf.core.submission.layout import Layout
from pytest_mlperf.core.submission.layout import folder_name
from pytest_mlperf.core.submission.truncate import read_ends
from pytest_mlperf.core.types import Scenario
from tests.support import logs

ORG, SYSTEM = "ACME", "box"
TEXTS = {
    "resnet50": "accuracy=76.456%, good=38228, total=50000",
    "bert": '{"exact_match": 83.7, "f1": 90.9}',
}
"""accuracy.txt of a run that reaches its target."""
SIZES = {"resnet50": (50_000, 1024), "bert": (10_833, 10_833)}
"""Samples of the dataset, and of them in memory."""
SCENARIOS = {
    "resnet50": ("SingleStream", "MultiStream", "Offline"),
    "bert": ("SingleStream", "Offline"),
}
MEASUREMENTS = {
    "input_data_types": "fp32",
    "retraining": "no",
    "starting_weights_filename": "model.onnx",
    "weight_data_types": "int8",
    "weight_transformations": "quantization to int8",
}
DESCRIPTION = {
    "status": "available",
    "system_name": "A box",
    "number_of_nodes": "1",
    "host_processor_model_name": "A CPU",
    "host_processors_per_node": "2",
    "host_processor_core_count": "64",
    "host_memory_capacity": "512 GB",
    "host_memory_configuration": "16 x 32 GB",
    "host_storage_capacity": "1 TB",
    "host_storage_type": "NVMe",
    "host_networking": "Ethernet",
    "host_network_card_count": "1",
    "host_networking_topology": "N/A",
    "cooling": "air",
    "framework": "onnxruntime",
    "operating_system": "Linux",
    "other_software_stack": "none",
}


def make(
    root: Path,
    round_name: str,
    benchmarks: Mapping[str, tuple[str, ...]] = SCENARIOS,
    division: str = "closed",
) -> Path:
    """Write a submission that every rule is content with, and return its root."""
    layout = Layout.of(round_name)
    home = root / layout.home(division, ORG)
    found = describe(
        DESCRIPTION, round_name=round_name, org=ORG, division=division, category="edge"
    )
    write(home / "systems" / f"{SYSTEM}.json", json.dumps(found, indent=1))
    write(home / "documentation/calibration.md", "# Calibration\n\nNone.\n")
    write(root / "README.md", "# A submission\n")
    for benchmark, scenarios in benchmarks.items():
        target = "99" if benchmark == "bert" else ""
        folder = folder_name(benchmark, target, round_name)
        code = root / layout.code(division, ORG)
        write(code / folder / "main.py", "print('hello')\n")
        for name in scenarios:
            scenario = Scenario(name)
            rule = rounds.get(round_name).find(benchmark, target, scenario)
            assert rule is not None, f"{round_name} has no {benchmark} {name}"
            result(root, layout, (division, ORG, SYSTEM, folder, name), rule)
    return root


def result(
    root: Path, layout: Layout, names: tuple[str, str, str, str, str], rule: Rule
) -> None:
    """Write one benchmark in one scenario."""
    performance(root / layout.performance(*names), rule)
    accuracy(root / layout.accuracy(*names), rule)
    described = root / layout.measurements(*names)
    write(described / "README.md", "# How to run it\n")
    conf = f"{rule.loadgen_model}.{rule.scenario.loadgen}.target_qps = 100\n"
    write(described / "user.conf", conf)
    text = json.dumps(MEASUREMENTS, indent=1)
    write(root / layout.measurements_json(*names), text)
    for test in rule.compliance:
        audit(root / layout.compliance(*names, test), rule, test)


def performance(
    folder: Path, rule: Rule, change: Mapping[str, object] | None = None
) -> None:
    """Write the logs of a passing performance run, or of an audited one."""
    total, loaded = SIZES[rule.benchmark]
    own = {"qsl_reported_total_count": total, "effective_accuracy_sample_count": total}
    logs.performance(
        folder,
        rule.scenario.value,
        seeds=rule.round,
        loaded=loaded,
        change=own | dict(change or {}),
        warnings=["Found Audit Config file (audit.config)."] if change else [],
    )


def accuracy(folder: Path, rule: Rule) -> None:
    """Write an accuracy run whose log is cut, as a submission has it."""
    seeds = rounds.get(rule.round).seeds
    total = SIZES[rule.benchmark][0]
    # MultiStream fills its last query up.
    more = 7 if rule.scenario is Scenario.MULTI_STREAM else 0
    logs.accuracy(
        folder,
        text=TEXTS[rule.benchmark],
        scenario=rule.scenario.value,
        total=total,
        answers={index: index.to_bytes(4, "little") for index in range(200)},
        change={
            "loaded_qsl_set": [*range(total), *range(more)],
            "effective_qsl_rng_seed": seeds.qsl,
            "effective_sample_index_rng_seed": seeds.sample_index,
            "effective_schedule_rng_seed": seeds.schedule,
        },
    )
    cut(folder)


def cut(folder: Path) -> None:
    """Truncate the accuracy log of a folder."""
    log = folder / "mlperf_log_accuracy.json"
    log.write_bytes(read_ends(log))


AUDITED: dict[str, dict[str, object]] = {
    "TEST01": {
        "effective_accuracy_log_rng_seed": 720381539243781796,
        "effective_accuracy_log_sampling_target": 4096,
    },
    "TEST04": {
        "effective_performance_issue_same": True,
        "effective_performance_issue_same_index": 3,
    },
}


def audit(folder: Path, rule: Rule, test: str) -> None:
    """Write a compliance test that was passed; of an older round without settings."""
    performance(folder / "performance/run_1", rule, AUDITED.get(test, {}))
    write(folder / "verify_performance.txt", "score = 1\nTEST PASS\n")
    if test == "TEST01":
        write(folder / "verify_accuracy.txt", "num_mismatch = 0\nTEST PASS\n")
        own = folder / "accuracy"
        accuracy(own, rule)
        for name in ("mlperf_log_summary.txt", "mlperf_log_detail.txt"):
            (own / name).unlink()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
