"""The two notes that a power submission has beside its results: meter and settings.

Source: inference_policies/power_measurement.adoc ("Power Analyzer Settings", "Power
Management Settings"): any text format, a person can read it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.machine.system import System

NOTES = ("analyzer_table", "power_settings")
TOLD = (
    "device", "cpu governor", "transparent huge pages", "clocks locked",
    "power settings", "numa", "cpus",
)  # fmt: skip
"""Facts of a run that say how the machine's power was managed."""


def write_notes(run: Path, session: Path, system: System, verdict: Verdict) -> None:
    """Write ``analyzer_table.*`` and ``power_settings.*`` into a run's folder.

    A file of the user's beside the system file (``systems/NAME_power_settings.md``) is
    copied; otherwise what the session and the run know is written.
    """
    made = {
        "analyzer_table": describe_meters(session / "power" / "server.json"),
        "power_settings": describe_settings(system, verdict),
    }
    for name in NOTES:
        own = find_own(system, name)
        if own:
            shutil.copyfile(own, run / f"{name}{own.suffix}")
        else:
            (run / f"{name}.md").write_text(made[name], encoding="utf-8")


def find_own(system: System, name: str) -> Path | None:
    """Return the user's own note beside the system file, if there is one."""
    file = system.tuning.path
    if file is None:
        return None
    return next(iter(sorted(file.parent.glob(f"{file.stem}_{name}.*"))), None)


def describe_meters(server: Path) -> str:
    """Return a table of the meters, of what they said of themselves."""
    record: dict[str, Any] = json.loads(server.read_text(encoding="utf-8"))
    said = [m for m in record["ptd_messages"] if m["cmd"] == "Identify"]
    before = [m for m in record["ptd_messages"] if m["cmd"] == "RR"]
    head = "meter | PTDaemon says it is | device type | interface | channels | ranges"
    rows = [f"| {head} before |", "|--:|---|--:|---|---|---|"]
    for number, one in enumerate(record["ptd_config"]):
        identity = said[number]["reply"] if number < len(said) else "?"
        ranges = before[number]["reply"] if number < len(before) else "?"
        channels = ",".join(map(str, one["channel"] or ())) or "one"
        interface = f"{one['interface_flag']} {one['device_port']}".strip()
        rows.append(
            f"| {number + 1} | {identity} | {one['device_type']} | {interface} | "
            f"{channels} | {ranges} |"
        )
    return "\n".join(["# Power analyzers", "", *rows, ""])


def describe_settings(system: System, verdict: Verdict) -> str:
    """Return what is known of the machine's power management during the run."""
    facts = {**verdict.facts, **verdict.run.to_texts()}
    lines = [f"- {name}: {facts[name]}" for name in TOLD if facts.get(name)]
    more = "- BIOS and firmware: add what is not the vendor's default."
    return "\n".join(
        [
            "# Power management settings",
            "",
            f"- system: {system.name}",
            *lines,
            more,
            "",
        ]
    )
