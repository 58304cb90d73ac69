"""What each command's help shows at its end: examples, and what its statuses mean."""

from __future__ import annotations

WRONG = "2  a wrong argument, or nothing that can be read"
INTERRUPTED = "130  Ctrl-C"
_EXPORT = (
    ("reports/latest", "reports/20261129-024013 -o exports"),
    ("0  written", WRONG, INTERRUPTED),
)

EXAMPLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "data status": (
        ("", "bert whisper --scratch=/data/mlperf"),
        ("0  all files are there", "1  one is missing", WRONG, INTERRUPTED),
    ),
    "data verify": (
        ("bert --scratch=/data/mlperf",),
        (
            "0  every file that is there is what it should be",
            "1  one is not",
            WRONG,
            INTERRUPTED,
        ),
    ),
    "data fetch": (
        ("bert 3d-unet --scratch=/data/mlperf",),
        (
            "0  all files are there",
            "1  one could not be fetched, or may not be: its origin is printed",
            WRONG,
            INTERRUPTED,
        ),
    ),
    "data preprocess": (
        ("3d-unet --scratch=/data/mlperf",),
        ("0  made, or nothing was to be made", "1  a step failed", WRONG, INTERRUPTED),
    ),
    "explain": (
        (
            "path/to/run_1",
            "results_v5.1/closed --json",
            "run_1 --benchmark bert-99 --scenario server --round v4.1",
        ),
        (
            "0  every run is VALID",
            "1  a rule is violated",
            "2  a log cannot be read or trusted, or a wrong argument",
            INTERRUPTED,
        ),
    ),
    "machine": (
        ("", "--advise", "--proof resnet50 --rate 50000"),
        (
            "0  nothing to change; of --proof: the links are fast enough",
            "1  something would spoil a run; of --proof: they are not",
            "2  a wrong argument or system file",
            INTERRUPTED,
        ),
    ),
    "power config": (
        ("--ptd ./ptd --ntp ntp1 --meter WT310E@/dev/usbtmc0",),
        ("0  written", "2  a wrong argument", INTERRUPTED),
    ),
    "power serve": (
        ("server-meter1.cfg",),
        ("0  a client asked to stop", "2  a wrong file, meter or port", INTERRUPTED),
    ),
    "power check": (
        ("results/box/resnet50/Offline/performance",),
        ("0  no problem", "1  a problem", WRONG, INTERRUPTED),
    ),
    "report html": (
        ("reports/latest", "results_v5.1/closed -o judged.html"),
        ("0  written", WRONG, INTERRUPTED),
    ),
    "report compare": (
        ("reports/main reports/latest --fail-below 0.95",),
        (
            "0  compared; nothing is slower than --fail-below allows",
            "1  a cell is slower than --fail-below allows",
            WRONG,
            "3  with --fail-below: a cell has no answer",
            INTERRUPTED,
        ),
    ),
    "report virtualclient": (
        ("reports/latest --names 1 -o metrics.md",),
        ("0  written", WRONG, INTERRUPTED),
    ),
    "report csv": _EXPORT,
    "report github": _EXPORT,
    "report openmetrics": _EXPORT,
    "report opentelemetry": _EXPORT,
    "report parquet": _EXPORT,
    "serve": (
        ("resnet50 --host 0.0.0.0 --port 8000", "bert --rehearsal"),
        (
            "0  ended by Ctrl-C or SIGTERM; what was asked was answered",
            "2  a wrong argument, or something is missing",
        ),
    ),
    "submit check": (
        ("reports/latest/submission", "tree --division closed --round v5.1 --all"),
        ("0  no problem", "1  a problem was found", WRONG, INTERRUPTED),
    ),
    "submit pack": (
        ("reports/latest/submission --encrypt",),
        ("0  packed", "1  not packed: a problem was found", WRONG, INTERRUPTED),
    ),
    "submit seal": (
        ("reports/latest/submission",),
        ("0  sealed", WRONG, INTERRUPTED),
    ),
    "triton export": (
        ("resnet50 --to models", "bert --to models --options max_batch_size=16"),
        ("0  written", "2  a wrong argument, or something is missing", INTERRUPTED),
    ),
    "tune grid": (
        ("grid.toml", "grid.toml --write best.toml --csv runs.csv"),
        (
            "0  a best combination was found",
            "1  none runs, or other programs used the CPUs",
            WRONG,
            INTERRUPTED,
        ),
    ),
    "tune peak": (
        ("bert-99-server --mlperf-fast", "resnet50-offline --mlperf-engine torch"),
        (
            "0  found, and confirmed by a run of the whole length",
            "1  no answer on this machine now",
            WRONG,
            INTERRUPTED,
        ),
    ),
    "tune precision": (
        ("bert-99-offline --precisions int8",),
        ("0  one keeps the target", "1  none does", WRONG, INTERRUPTED),
    ),
    "tune server": (
        ("grid.toml --mlperf-fast --write best.toml",),
        ("0  found", "1  no answer on this machine now", WRONG, INTERRUPTED),
    ),
}
"""Command -> lines of arguments that it takes, and lines of its exit statuses."""
