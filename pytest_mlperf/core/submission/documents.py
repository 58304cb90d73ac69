"""The texts of a submission: measurements, README, calibration, and what was chosen."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from pathlib import PurePath
from typing import Any

from pytest_mlperf.core import catalog
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.submission.choose import Choice
from pytest_mlperf.core.submission.request import Entry
from pytest_mlperf.core.submission.request import SubmissionRequest
from pytest_mlperf.core.types import REHEARSAL

NOTICE = (
    "REHEARSAL: answers come from the ground truth of synthetic data and nothing was "
    "measured. This is no result and must not be submitted."
)
CALIBRATION = (
    "No model was retrained or pruned. An engine derives its precision from the fp32 "
    "reference model when it is built; activations are scaled by the round's "
    "calibration set or as they come, and no other data is used."
)
OWN_MODEL = "-embedded"
"""End of the folder's name where the model is not the official one."""
SCRATCH = "--mlperf-scratch"
VARIABLE = "MLPERF_SCRATCH_PATH"
_PLACES = """
    --mlperf-reports --mlperf-checker --mlperf-cache --mlperf-tree --rootdir
    --basetemp --confcutdir --config-file -c --junitxml --junit-xml --log-file
"""
PLACES = frozenset(_PLACES.split())
"""Options whose value is a place on the machine."""
DEFAULT_PRECISION = "fp32"
"""Of a run that does not report any."""
TESTS = {"performance": "test_performance", "accuracy": "test_accuracy"}


@dataclass(frozen=True, slots=True)
class SubmissionSession:
    """How the runs came about, as far as a reader can repeat it."""

    command: Sequence[str]
    """Arguments of pytest as they were given."""
    options: Sequence[str]
    """The same settings as options alone, wherever they were written."""
    environment: Sequence[str] = ()
    """Names of environment variables that were read."""
    versions: Mapping[str, str] = field(default_factory=dict)


def list_notices(labels: Iterable[str]) -> list[str]:
    """Return what a reader must know before any number."""
    own = [label for label in labels if label != REHEARSAL]
    found = [NOTICE] * (REHEARSAL in labels)
    if own:
        found.append(f"Labelled {', '.join(own)}: open division, no official result.")
    return found


def format_measurements(entry: Entry) -> str:
    """Return the measurements JSON: five required fields, then what else is known.

    Field names: SYSTEM_IMP_REQUIRED_FILES of the checker; it allows others.
    """
    verdict = entry.performance.verdict
    run = verdict.run
    precision = run.precision or DEFAULT_PRECISION
    weights = run.weights_file
    if REHEARSAL in verdict.labels:
        weights = "none: answers come from the ground truth"
    data = {
        "input_data_types": ", ".join(run.input_types) or precision,
        "weight_data_types": precision,
        "retraining": "no",
        "starting_weights_filename": weights or run.workload or "unknown",
        "weight_transformations": describe_transformations(run),
        "engine": verdict.engine,
        "engine_build": verdict.build,
    }
    if text := " ".join(list_notices(verdict.labels)):
        data["notes"] = text
    return json.dumps(data, indent=2) + "\n"


def describe_transformations(run: RunFacts) -> str:
    """Return what was done to the weights, by the precision they ended in."""
    if run.weight_transformations:
        return run.weight_transformations
    precision = run.precision or DEFAULT_PRECISION
    if precision in ("int8", "fp8", "fp4", "int4"):
        return f"quantization to {precision}"
    return "none" if precision == "fp32" else f"conversion to {precision}"


def format_user_conf(text: str, labels: Iterable[str]) -> str:
    """Return the user.conf of the run, with the labels as comments before it."""
    return "\n".join([*(f"# {line}" for line in list_notices(labels)), text])


def format_readme(
    entry: Entry, ask: SubmissionRequest, session: SubmissionSession, full_log: str
) -> str:
    """Return the README of one result: how it came about and how to repeat it."""
    verdict = entry.performance.verdict
    name = f"{entry.rule.model} {entry.rule.scenario.value}"
    cell = f"{entry.rule.model}-{entry.rule.scenario.slug}-{verdict.engine}"
    lines = [f"# {name}, {ask.division} division, {ask.round}", ""]
    for notice in list_notices(verdict.labels):
        lines += [f"**{notice}**", ""]
    lines += [
        (f"{ask.org}, system `{ask.system}`, engine `{verdict.engine}` "
        f"(build `{verdict.build}`)."),
        "", "## Run it again", "",
        ("The code is in the submission's `src` or `code` folder: install "
        "it as its README.md says, then in that folder run"), "", "```",
    ]  # fmt: skip
    # One session, because an audit is compared with the runs beside it.
    nodes = []
    for run in entry.runs:
        test = TESTS.get(run.mode, "test_compliance")
        node = cell if run.mode in TESTS else f"{cell}-{run.mode}"
        nodes.append(f"  {quote(f'suites/{test}.py::{test}[{node}]')}")
    head = " ".join(["pytest", *map(quote, session.options)])
    lines += [" \\\n".join([head, *nodes]), "```", "", "It ran as part of", "", "```"]
    lines += [" ".join(["pytest", *map(quote, session.command)]), "```", ""]
    if session.environment:
        names = ", ".join(f"`{name}`" for name in session.environment)
        lines += [f"Environment variables that were set: {names}.", ""]
    lines += ["## What ran", ""]
    lines += [f"- {k}: {v}" for k, v in sorted(verdict.facts.items()) if v]
    lines += [f"- {k} {v}" for k, v in sorted(session.versions.items())]
    lines += [
        "", ("The accuracy log here is cut in the official way; the whole has the "
        f"sha256 `{full_log}` and stays with the submitter. That of every file is in "
        "`documentation/sha256sums.txt`."), "",
    ]  # fmt: skip
    return "\n".join(lines)


def hide_places(command: Iterable[str], scratch: Path | None = None) -> list[str]:
    """Return pytest's arguments without places on this machine.

    The folder of models becomes its variable; paths of files keep their name alone.
    """
    found: list[str] = []
    words = iter(command)
    for word in words:
        flag, equals, _ = word.partition("=")
        if flag == SCRATCH or flag in PLACES:
            if not equals:
                next(words, "")
            found += [f"{SCRATCH}=${VARIABLE}"] * (flag == SCRATCH)
            continue
        text = word.replace(str(scratch), f"${VARIABLE}") if scratch else word
        path, colons, item = text.partition("::")
        if path.startswith(("/", "~")):
            text = f"{PurePath(path).name}{colons}{item}"
        found.append(text)
    return found


def quote(word: str) -> str:
    """Return a word quoted for a shell, with variables left to expand."""
    plain = re.fullmatch(r"[\w@%+=:,./$-]+", word)
    return word if plain else shlex.quote(word)


def format_calibration(
    entries: Sequence[Entry], labels: Iterable[str], before: str = ""
) -> str:
    """Return calibration.md: what was quantized, and with which data.

    ``before`` is the document of the tree that is completed: rows are added to it.
    """
    rows = [_format_row(entry) for entry in entries]
    if before:
        new = [row for row in rows if row not in before]
        return "\n".join([before.rstrip("\n"), *new, ""])
    lines = ["# Calibration and quantisation", ""]
    for notice in list_notices(labels):
        lines += [f"**{notice}**", ""]
    lines += [CALIBRATION, "", "| benchmark | scenario | engine | precision | done |"]
    return "\n".join([*lines, "|---|---|---|---|---|", *rows, ""])


def _format_row(entry: Entry) -> str:
    verdict = entry.performance.verdict
    cells = [
        entry.rule.model,
        entry.rule.scenario.value,
        verdict.engine,
        verdict.run.precision or DEFAULT_PRECISION,
        describe_transformations(verdict.run),
    ]
    return f"| {' | '.join(cells)} |"


def describe_unchanged(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Say that a description is unchanged, and what this session would have written."""
    unlike = [
        f"{name} is {there.get(name)!r} there and {value!r} here"
        for name, value in here.items()
        if there.get(name) != value
    ]
    if not unlike:
        return "kept as it is"
    return (
        f"kept as it is, though {'; '.join(unlike)}: if that matters to the results, "
        "correct it, then pytest-mlperf submit seal"
    )


def map_models(entries: Iterable[Entry], ask: SubmissionRequest) -> dict[str, str]:
    """Return folder -> official model of the open entries whose model is another."""
    return {
        custom: catalog.get(entry.rule.benchmark).checker_name or entry.rule.model
        for entry in entries
        if (custom := find_own_folder(entry, ask))
    }


def find_own_folder(entry: Entry, ask: SubmissionRequest) -> str:
    """Return the folder of an open entry whose model is not the official one."""
    if ask.is_strict or "embedded" not in entry.performance.verdict.labels:
        return ""
    return f"{entry.rule.model}{OWN_MODEL}"


def format_report(
    choice: Choice, ask: SubmissionRequest, full_logs: Mapping[str, str]
) -> str:
    """Return submission.md: what was taken, what was not and why.

    ``full_logs`` maps the folder of each whole accuracy log to its sha256.
    """
    lines = [f"# {ask.division} {ask.round} submission of {ask.org}, {ask.system}", ""]
    if ask.rehearsal:
        lines += [f"**{NOTICE}**", ""]
    for text in choice.refusals:
        lines.append(f"- refused: {text}")
    lines += ["", "## Taken", ""]
    for entry in choice.entries:
        name = f"{entry.rule.model} {entry.rule.scenario.value}"
        lines.append(f"- {name}: {_describe_entry(entry)}")
        lines += [f"  - {run.mode}: {run.folder}" for run in entry.runs]
    lines += ["", "## Not taken", ""]
    lines += [f"- {run.name}: {reason} ({run.folder})" for run, reason in choice.others]
    if full_logs:
        lines += ["", "## Whole accuracy logs", "", "Keep them: they may be asked for."]
        lines += [""]
        lines += [f"- {sha256}  {folder}" for folder, sha256 in full_logs.items()]
    return "\n".join([*lines, ""])


def _describe_entry(entry: Entry) -> str:
    """Return an entry's figure and engine."""
    return f"{entry.performance.score} on {entry.performance.verdict.engine}"


def format_mlperf_conf(rule: Rule) -> str:
    """Return what the round fixes, for rounds that want a mlperf.conf beside user.conf.

    LoadGen takes none of it from a file: the suite sets it on TestSettings.
    """
    head = f"{rule.loadgen_model}.{rule.scenario.loadgen}"
    values = {
        "min_duration": rule.min_duration_ms,
        "min_query_count": rule.min_query_count,
        "performance_sample_count_override": rule.performance_sample_count,
    }
    if rule.target_latency_ns is not None:
        values["target_latency"] = rule.target_latency_ns // 1_000_000
    lines = [f"{head}.{key} = {value}" for key, value in values.items()]
    return "\n".join([f"# {rule.round}: what the round fixes for this result", *lines])
