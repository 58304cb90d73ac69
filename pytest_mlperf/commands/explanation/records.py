"""Judges a run of this suite in the context that its results.jsonl recorded.

A fast or embedded run is held to the settings it was started with. They are in the
report beside the logs, not in the logs.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from pytest_mlperf.core.logs.discover import CELL
from pytest_mlperf.core.logs.discover import MODE
from pytest_mlperf.core.logs.discover import FoundRun
from pytest_mlperf.core.logs.discover import find_test_name
from pytest_mlperf.core.regular_file import is_below
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

RESULTS = "results.jsonl"
FACT = "context"


def judge_as_recorded(found_run: FoundRun, judge: Callable[[str], Verdict]) -> Verdict:
    """Return the verdict of a run, in the context that its report recorded.

    ``judge`` takes the round to judge by, unless the user chose another; empty leaves
    the choice to the log.
    """
    report = find_report(found_run.path.absolute())
    if report is None:
        return judge("")
    recorded = read_verdicts(report).get(make_run_key(found_run.path.absolute()))
    if recorded is None:
        verdict = judge("")
        note = f"no verdict of it in {report}: judged without what shortened it"
        return replace(verdict, facts={**verdict.facts, FACT: note})
    verdict = judge(recorded.round)
    if verdict.round != recorded.round:
        return verdict
    return apply_context(verdict, recorded, report)


def find_report(folder: Path) -> Path | None:
    """Return the report of a run in logs/<cell>/<mode>; None for any other folder."""
    cell = folder.parent
    is_mode = MODE.fullmatch(folder.name) or find_test_name(folder.name)
    is_ours = is_mode and CELL.fullmatch(cell.name)
    if not is_ours or cell.parent.name != "logs":
        return None
    report = cell.parent.parent / RESULTS
    return report if report.is_file() and is_below(report, report.parent) else None


def make_run_key(folder: Path) -> str:
    """Return a run's key in its report, valid wherever the report is moved."""
    return "/".join(folder.parts[-2:])


@cache
def read_verdicts(report: Path) -> Mapping[str, Verdict]:
    """Return run -> verdict of a report; empty for an unreadable one."""
    # Imported only for such a report: explaining logs must start at once.
    from pytest_mlperf.reporting.results import read_results

    try:
        records = read_results(report, allow_partial=True).records
    except (OSError, ValueError):
        return {}
    verdicts = [record.verdict for record in records if record.verdict]
    return {make_run_key(Path(v.folder)): v for v in verdicts if v.folder}


def apply_context(verdict: Verdict, recorded: Verdict, report: Path) -> Verdict:
    """Return a fresh verdict with the recorded one's waivers, references and labels.

    A recorded check counts only if the log still shows the value it found. A check that
    failed by something outside the log (a comparison, the bandwidth) has still failed.
    """
    before = {check.name: check for check in recorded.checks}
    known = {check.name for check in verdict.checks}
    beyond = tuple(
        check
        for check in recorded.checks
        if check.status is Status.FAIL and check.name not in known
    )
    checks = tuple(
        choose_check(check, before.get(check.name), recorded)
        for check in verdict.checks
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


def choose_check(check: Check, before: Check | None, recorded: Verdict) -> Check:
    """Return the recorded check if it was held to a limit other than the round's, or
    failed alike: its remedy knows what else ran, and what the probe had found.
    """
    if check.status is not Status.FAIL or before is None:
        return check
    if (before.status, before.found) == (check.status, check.found):
        return before
    embedded = "embedded" in recorded.labels and check.name.startswith("accuracy_")
    waived = before.status is Status.WAIVED
    return before if (waived or embedded) and before.found == check.found else check
