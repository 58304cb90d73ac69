"""A whole power session around small logs, written without the code that measures."""

from __future__ import annotations

import hashlib
import json
import time
from datetime import UTC
from datetime import datetime
from pathlib import Path
from typing import Any

from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.submission.check.power import HASHED
from tests.support import logs
from tests.support import trees

BASE = "closed/ACME/results/box/bert-99/Offline/performance"
SESSION = "2026-11-22_04-59-00"
LOGS = ("mlperf_log_summary.txt", "mlperf_log_detail.txt")
RUN_S = 0.3
CLIENT = "56a4d881-4d7c-4a84-a7b8-c40515ad068d"
SERVER = "0b65afba-71db-488c-adae-d14390fa5647"
SOURCES = {
    "__init__.py": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "client.py": "33ca4f26368777ac06e01f9567b714a4b8063886",
    "lib/__init__.py": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "lib/client.py": "ac2aa093c8e8bbc9569b9e2a3471bc64e58a2258",
    "lib/common.py": "611d8b29633d331eb19c9455ea3b5fa3284ed6df",
    "lib/external/__init__.py": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "lib/external/ntplib.py": "4da8f970656505a40483206ef2b5d3dd5e81711d",
    "lib/server.py": "9bc9a3b6b9b716520658ac175913bcbbdb354336",
    "lib/source_hashes.py": "60a2e02193209e8d392803326208d5466342da18",
    "lib/summary.py": "602a9fedfa503e5544d27ab3b0067f235047efc3",
    "lib/time_sync.py": "80894ef2389e540781ff78de94db16aa4203a14e",
    "server.py": "c3f90f2f7eeb4db30727556d0c815ebc89b3d28b",
    "tests/unit/__init__.py": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "tests/unit/test_server.py": "948c1995d4008bc2aa6c4046a34ffa3858d6d671",
    "tests/unit/test_source_hashes.py": "00468a2907583c593e6574a1f6b404e4651c221a",
}
"""Sums of ptd_client_server at mlcommons/power-dev c4b3ad82, which v5.1 asks for."""


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%m-%d-%Y %H:%M:%S.%f")[:-3]


def window(folder: Path) -> tuple[float, float]:
    """Return when a run began and ended, in seconds since 1970."""
    log = Log.read(folder)
    texts = (log.text("power_begin"), log.text("power_end"))
    form = "%m-%d-%Y %H:%M:%S.%f"
    begin, end = (datetime.strptime(t, form).replace(tzinfo=UTC) for t in texts)
    return begin.timestamp(), end.timestamp()


def measure(base: Path) -> None:
    """Write a power session around the run that is there, ranging an hour before."""
    ranging, testing = base / "ranging", base / "run_1"
    ranging.mkdir()
    for name in LOGS:
        text = (testing / name).read_text("utf-8")
        text = text.replace("11-22-2026 06:", "11-22-2026 05:")
        (ranging / name).write_text(text, "utf-8")
    phases = {}
    for folder, mode in ((ranging, "ranging"), (testing, "testing")):
        begin, end = window(folder)
        lines = [spl(begin + 1 + n, 100.0) for n in range(5)]
        (folder / "spl.txt").write_text("".join(lines), "utf-8")
        phases[mode] = [[t, t] for t in (begin - 9, begin - 5, end + 5, end + 9)]
    power = base / "power"
    power.mkdir()
    start, stop = phases["ranging"][1][0], phases["ranging"][2][0]
    log = [
        f"{stamp(start - 2)}: Uncertainty checking for YokogawaWT310 is activated\n",
        f"{stamp(start)}: Go with mark '{SESSION}_ranging'\n",
        f"{stamp(start + 1)}: ERROR: Can't evaluate uncertainty of this sample!\n",
        f"{stamp(stop)}: Completed test\n",
    ]
    (power / "ptd_logs.txt").write_text("".join(log), "utf-8")
    for name in ("client.log", "server.log"):
        (power / name).write_text("log\n", "utf-8")
    common: dict[str, Any] = {
        "version": "1.0",
        "timezone": 0,
        "modules": {},
        "sources": SOURCES,
        "messages": [
            {"cmd": "mlcommons/power client v3", "reply": "mlcommons/power server v3"},
            {"cmd": "time", "reply": "1"},
        ],
        "uuid": {"client": CLIENT, "server": SERVER},
        "session_name": SESSION,
        "phases": phases,
        "results": {},
    }
    identity = "YokogawaWT310,1,version=1.11.1-abc,OS=Linux"
    server = {
        "ptd_messages": list_ptd_messages(identity),
        "ptd_config": [{"device_type": 49, "channel": None}],
    }
    sign(base, common, common | server)


def make_tree(root: Path, round_name: str) -> Path:
    """Write a submission of bert-99 on an edge system, with power in Offline."""
    trees.make(root, round_name, {"bert": ("SingleStream", "Offline")})
    measure(root / BASE)
    for name in ("analyzer_table.md", "power_settings.txt"):
        trees.write(root / "closed/ACME/results/box" / name, "Yokogawa WT310\n")
    return root


def spl(seconds: float, watts: float) -> str:
    return (
        f"Time,{stamp(seconds)},Watts,{watts:.6f},Volts,230.0,Amps,1.0,PF,0.98,"
        f"Mark,{SESSION}_testing\n"
    )


def list_ptd_messages(identity: str) -> list[dict[str, str]]:
    """Return a whole conversation with a meter, by who it says it is."""
    limits = "maximum 500000 samples at 1000ms with 0 rampup samples"
    go = f"Starting untimed measurement, {limits}"
    pairs = [
        ("Hello", "Hello, PTDaemon here!"), ("Identify", identity),
        ("RR", "Ranges,0,20.000000,0,300.000000"),
        ("SR,V,Auto", "Range V changed"), ("SR,A,Auto", "Range A changed"),
        ("SR,A,Auto", "Range A changed"), (f"Go,1000,0,{SESSION}_ranging", go),
        ("Stop", "Stopping untimed measurement"), ("RL", "Last 5 samples"),
        ("SR,V,230.0", "Range V changed"), ("SR,A,1.1", "Range A changed"),
        (f"Go,1000,0,{SESSION}_testing", go), ("Stop", "Stopping untimed measurement"),
        ("RL", "Last 5 samples"), ("SR,V,300.000000", "Range V changed"),
        ("SR,A,20.000000", "Range A changed"),
    ]  # fmt: skip
    return [{"cmd": command, "reply": reply} for command, reply in pairs]


def sign(base: Path, client: dict[str, Any], server: dict[str, Any]) -> None:
    """Write both descriptions with the digests of the files as they are."""
    sums = {}
    for name in HASHED:
        sums[name] = hashlib.sha1((base / name).read_bytes()).hexdigest()  # noqa: S324
    mine = {name: value for name, value in sums.items() if name.endswith("client.log")}
    rest = {name: value for name, value in sums.items() if name not in mine}
    trees.write(base / "power/client.json", json.dumps({**client, "results": mine}))
    trees.write(base / "power/server.json", json.dumps({**server, "results": rest}))


def write_run(folder: Path) -> Path:
    """Write logs of a run that ended just now and took ``RUN_S``."""
    logs.performance(folder, "Offline")
    detail = folder / "mlperf_log_detail.txt"
    text = detail.read_text("utf-8")
    times = {"power_begin": time.time() - RUN_S, "power_end": time.time()}
    for line in text.splitlines():
        for key, at in times.items():
            if f'"{key}"' in line:
                old = json.loads(line.removeprefix(":::MLLOG "))["value"]
                text = text.replace(line, line.replace(old, stamp(at)))
    detail.write_text(text, "utf-8")
    return folder
