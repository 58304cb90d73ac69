"""Small log folders in LoadGen's format, computed from latencies.

What is built here is as LoadGen 6.0 writes it; a real run in the tests holds the
builder against LoadGen itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_mlperf.core.logs.summary import list_expected_lines
from tests.support.log_values import LOADED
from tests.support.log_values import Tokens
from tests.support.log_values import asked
from tests.support.log_values import clock
from tests.support.log_values import head
from tests.support.log_values import results


def rising(count: int, first_ns: int, last_ns: int) -> list[int]:
    """Return ``count`` latencies in equal steps."""
    step = (last_ns - first_ns) / max(count - 1, 1)
    return [first_ns + int(step * i) for i in range(count)]


STORIES: dict[str, dict[str, Any]] = {
    "SingleStream": {"latencies": rising(1000, 600_000_000, 620_000_000)},
    "MultiStream": {"latencies": rising(1000, 600_000_000, 620_000_000)},
    "Server": {"latencies": rising(60_500, 5_000_000, 12_000_000)},
    "Offline": {"latencies": rising(66_000, 1_000_000, 660_000_000_000)},
}
"""One passing run of resnet50 for each scenario."""


def performance(
    folder: Path,
    scenario: str,
    *,
    latencies: Sequence[int] | None = None,
    change: Mapping[str, object] | None = None,
    summary: Mapping[str, object] | None = None,
    drop: Iterable[str] = (),
    errors: Iterable[str] = (),
    warnings: Iterable[str] = (),
    target_ns: int = 15_000_000,
    seeds: str = "v6.1",
    tokens: Tokens | None = None,
    loaded: int = LOADED,
    mirror: bool = True,
) -> Path:
    """Write a finished performance run and return its folder.

    ``change`` replaces or adds values of the detail log after all is computed, so
    that one line can be made to lie; ``drop`` leaves lines out. With ``mirror`` a
    changed setting was asked for as well. ``summary`` makes the summary alone lie.
    """
    taken = sorted(latencies or STORIES[scenario]["latencies"])
    own = {"loaded_qsl_set": list(range(loaded))}
    if scenario == "MultiStream":
        own["loaded_qsl_set"] += range(7)
    values = head(scenario, "PerformanceOnly", seeds, loaded)
    values |= asked(scenario, taken, target_ns, tokens)
    values |= own | results(scenario, taken, target_ns, tokens)
    values |= change or {}
    if mirror:
        values |= mirrored(scenario, change or {}, values)
    for key in drop:
        values.pop(key, None)
    return write(folder, values, errors, warnings, summary)


def mirrored(
    scenario: str, change: Mapping[str, object], values: Mapping[str, Any]
) -> dict[str, object]:
    """Return what LoadGen would log had the changed settings been asked for."""
    name = {"SingleStream": "single_stream", "MultiStream": "multi_stream"}
    own = name.get(scenario, scenario.lower())
    found: dict[str, object] = {}
    if "loadgen_version" in change:
        commit = str(change["loadgen_version"]).rpartition(" @ ")[2]
        found["loadgen_git_log_message"] = f"{commit} Another commit"
    for key, value in change.items():
        twin = key.replace("effective_", "requested_")
        special = {
            "effective_target_latency_ns": f"requested_{own}_target_latency_ns",
            "effective_target_latency_percentile": (
                f"requested_{own}_target_latency_percentile"
            ),
            "effective_performance_sample_count": (
                "requested_performance_sample_count_override"
            ),
            "effective_target_qps": (
                "requested_server_target_qps"
                if scenario == "Server"
                else "requested_offline_expected_qps"
            ),
            "effective_samples_per_query": f"requested_{own}_samples_per_query",
        }
        twin = special.get(key, twin)
        if key.startswith("effective_") and twin in values and twin not in change:
            found[twin] = value
    if scenario != "Offline" and "effective_min_duration_ms" in change:
        found["effective_target_duration_ms"] = values["effective_min_duration_ms"]
    if "effective_min_sample_count" not in change:
        with suppress(TypeError, KeyError, OverflowError):
            product = values["effective_min_query_count"]
            product *= values["effective_samples_per_query"]
            found["effective_min_sample_count"] = product
    return found


def accuracy(
    folder: Path,
    *,
    answers: Mapping[int, bytes] | None = None,
    total: int = 40,
    text: str = "accuracy=76.456%, good=38228, total=50000",
    scenario: str = "Offline",
    change: Mapping[str, object] | None = None,
    errors: Iterable[str] = (),
) -> Path:
    """Write a finished, scored accuracy run and return its folder."""
    if answers is None:
        answers = {index: index.to_bytes(4, "little") for index in range(total)}
    values = head(scenario, "AccuracyOnly", "v6.1", total, total)
    values |= asked(scenario, [1_000_000] * total, 15_000_000)
    values |= {
        "generic_message": "Starting accuracy mode",
        "loaded_qsl_set": list(range(total)),
        "power_begin": "11-22-2026 06:00:00.000",
        "power_end": clock(3.5),
    }
    values |= change or {}
    values |= mirrored(scenario, change or {}, values)
    write(folder, values, errors)
    entries = [
        f'{{ "seq_id" : {i}, "qsl_idx" : {index}, "data" : "{data.hex().upper()}" }}'
        for i, (index, data) in enumerate(answers.items())
    ]
    log = folder / "mlperf_log_accuracy.json"
    log.write_text("[\n" + ",\n".join(entries) + "\n]\n")
    score(folder, text)
    return folder


def score(folder: Path, text: str) -> None:
    """Write accuracy.txt beside the accuracy log that is in the folder."""
    log = folder / "mlperf_log_accuracy.json"
    digest = hashlib.sha256(log.read_bytes()).hexdigest()
    (folder / "accuracy.txt").write_text(f"{text}\n\nhash={digest}\n")


def line(key: str, value: object, *, error: bool = False, warning: bool = False) -> str:
    """Return one line of a detail log."""
    record = {
        "key": key,
        "value": value,
        "time_ms": 1.5,
        "namespace": "mlperf::logging",
        "event_type": "POINT_IN_TIME",
        "metadata": {"is_error": error, "is_warning": warning, "pid": 1, "tid": 1},
    }
    return f":::MLLOG {json.dumps(record)}\n"


def write(
    folder: Path,
    values: Mapping[str, object],
    errors: Iterable[str] = (),
    warnings: Iterable[str] = (),
    summary: Mapping[str, object] | None = None,
) -> Path:
    """Write detail and summary of these values and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    faults = list(errors)
    detail = [line(key, value) for key, value in values.items()]
    told = [line("error_runtime", text, error=True) for text in faults]
    told += [line("warning_generic_message", text, warning=True) for text in warnings]
    detail[4:4] = told
    (folder / "mlperf_log_detail.txt").write_text("".join(detail))
    text = ""
    if "result_validity" in values:
        text = summarised({**values, **(summary or {})})
    text += "\nNo warnings encountered during test.\n"
    count = "\nNo errors encountered during test."
    if faults:
        name = "1 ERROR" if len(faults) == 1 else f"{len(faults)} ERRORS"
        count = f"\n{name} encountered. See detailed log."
    (folder / "mlperf_log_summary.txt").write_text(f"{text}{count}\n")
    return folder


def summarised(values: Mapping[str, Any]) -> str:
    """Return the lines of a summary that repeat the detail log's values."""
    lines = ["=" * 48, "MLPerf Results Summary", "=" * 48]
    share = values["effective_target_latency_percentile"]
    asked = f"_{share * 100:.2f}_" if isinstance(share, float) else "none"
    for told in list_expected_lines(values):
        # Bounds of tokens that LoadGen does not use are in the summary alone.
        value = values.get(told.key, 100_000_000)
        if not told.needed and asked not in told.key:
            continue
        if isinstance(value, bool):
            setting = told.key.startswith("effective_")
            text = str(int(value)) if setting else ("Yes" if value else "NO")
        else:
            text = f"{value:g}" if isinstance(value, float) else str(value)
        lines.append(f"{told.labels[0]} : {text}")
    for kind in ("", "ttft_", "tpot_"):
        # The detail log has spaces for the ends of the lines.
        text = str(values.get(f"early_stopping_{kind}result", ""))
        lines.append(text.replace("  ", "\n "))
    return "\n".join(lines) + "\n"
