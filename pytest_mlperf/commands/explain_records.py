"""Runs of this suite's own: the verdict that results.jsonl recorded of them.

A fast or embedded run is held to what it was asked for. The logs do not say what that
was; the report beside them does.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from pytest_mlperf.core.logs.discover import CELL
from pytest_mlperf.core.logs.discover import MODE
from pytest_mlperf.core.logs.discover import TEST
from pytest_mlperf.core.logs.discover import Place
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

RESULTS = "results.jsonl"
FACT = "context"


def as_recorded(place: Place, judge: Callable[[str], Verdict]) -> Verdict:
    """Return the verdict of a run, in the context that its report recorded.

    ``judge`` takes the round that it is judged by unless the user named another; empty
    leaves it to the log.
    """
    report = report_of(place.path.absolute())
    if report is None:
        return judge("")
    recorded = verdicts(report).get(key(place.path.absolute()))
    if recorded is None:
        verdict = judge("")
        note = f"no verdict of it in {report}: judged without what shortened it"
        return replace(verdict, facts={**verdict.facts, FACT: note})
    verdict = judge(recorded.round)
    if verdict.round != recorded.round:
        return verdict
    return in_context(verdict, recorded, report)


def report_of(folder: Path) -> Path | None:
    """Return the report of a run in logs/<cell>/<mode>; None for any other folder."""
    cell = folder.parent
    mode = MODE.fullmatch(folder.name) or TEST.fullmatch(folder.name)
    ours = mode and CELL.fullmatch(cell.name)
    if not ours or cell.parent.name != "logs":
        return None
    report = cell.parent.parent / RESULTS
    return report if report.is_file() else None


def key(folder: Path) -> str:
    """Return what names a run in its report, wherever that was moved to."""
    return "/".join(folder.parts[-2:])


@cache
def verdicts(report: Path) -> Mapping[str, Verdict]:
    """Return run -> verdict of a report; none of one that cannot be read."""
    # Loaded where there is such a report alone: explaining logs must start at once.
    from pytest_mlperf.reporting.results import read

    try:
        records = read(report, allow_partial=True).records
    except (OSError, ValueError):
        return {}
    found = [record.verdict for record in records if record.verdict]
    return {key(Path(verdict.folder)): verdict for verdict in found if verdict.folder}


def in_context(verdict: Verdict, recorded: Verdict, report: Path) -> Verdict:
    """Return a fresh verdict with the recorded one's waivers, references and labels.

    A recorded check stands only where the log still shows what it found; one that
    failed by what no log shows (a comparison, the device's bandwidth) has still failed.
    """
    before = {check.name: check for check in recorded.checks}
    known = {check.name for check in verdict.checks}
    beyond = tuple(
        check
        for check in recorded.checks
        if check.status is Status.FAIL and check.name not in known
    )
    checks = tuple(
        stands(check, before.get(check.name), recorded) for check in verdict.checks
    )
    return replace(
        verdict,
        engine=recorded.engine,
        checks=checks + beyond,
        labels=recorded.labels,
        limit=recorded.limit,
        expected_s=recorded.expected_s,
        build=recorded.build,
        facts={**recorded.facts, **verdict.facts, FACT: f"as recorded in {report}"},
    )


def stands(check: Check, before: Check | None, recorded: Verdict) -> Check:
    """Return the recorded check where it was held to something else than the round."""
    if check.status is not Status.FAIL or before is None:
        return check
    embedded = "embedded" in recorded.labels and check.name.startswith("accuracy_")
    waived = before.status is Status.WAIVED
    return before if (waived or embedded) and before.found == check.found else check
