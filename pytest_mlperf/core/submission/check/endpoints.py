"""Results of MLPerf Endpoints in a tree: their files, the judge's verdict, audits.

``checker`` is mlcommons/inference b66003e1, tools/submission/submission_checker:
loader.py, checks/compliance_check.py, checks/measurements_checks.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mlperf.core.endpoints import files
from pytest_mlperf.core.endpoints.documents import Document
from pytest_mlperf.core.endpoints.judge import identify_result
from pytest_mlperf.core.endpoints.rules import AUDITS
from pytest_mlperf.core.endpoints.rules import REQUIRED_AUDITS
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.submission.check.listing import Listing
from pytest_mlperf.core.submission.check.logs import describe_run
from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.submission.check.problem import make_fault
from pytest_mlperf.core.submission.check.tree import Result
from pytest_mlperf.core.submission.check.tree import Tree
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status

FASTER = 0.20
"""What TEST04 allows at most: a slow stream's share (compliance/TEST04)."""

place_rule = make_fault("endpoints_files")
audit_rule = make_fault("compliance_verdict")
missing_rule = make_fault("compliance")


def has_endpoints(tree: Tree, result: Result) -> bool:
    """True for a result of the endpoints client, which has no LoadGen logs.

    Checker: neither detail log is there; a configuration says that it is no result
    whose logs were lost.
    """
    details = (
        f"{tree.layout.performance(*result.names)}/{DETAIL}",
        f"{tree.layout.accuracy(*result.names)}/{DETAIL}",
    )
    if any(map(tree.listing.is_file, details)):
        return False
    return has_config(tree.listing, result.path)


def has_config(listing: Listing, path: str) -> bool:
    return any(listing.is_file(f"{path}/{name}") for name in files.CONFIGS)


def endpoints_problems(tree: Tree, result: Result) -> Iterator[Problem]:
    """Yield what is wrong with both runs and the audits of a result."""
    for folder, name in files.FILES.items():
        yield from place_problems(tree, result, folder, name)
        yield from run_problems(tree, result, folder)
    yield from audit_problems(tree, result)


def place_problems(
    tree: Tree, result: Result, folder: str, name: str
) -> Iterator[Problem]:
    """The files are where the checker reads them.

    The client's publishing script writes performance/run_1, as LoadGen's are.
    """
    inner = f"{result.path}/{folder}/run_1/{name}"
    if tree.listing.is_file(inner):
        required = f"{result.path}/{folder}/{name}"
        remedy = "move it one folder up: the checker does not look into run_1"
        yield place_rule(inner, "a result in run_1", required, remedy)


def run_problems(tree: Tree, result: Result, folder: str) -> Iterator[Problem]:
    """Yield a problem for every check of the judge that did not pass."""
    path = f"{result.path}/{folder}"
    place = describe_run(tree, result, path, Mode(folder), "")
    if not place.benchmark or place.scenario is None:
        return  # The names of the folders are a problem already.
    for check in identify_result(place, tree.round.name).checks:
        if check.status in (Status.FAIL, Status.ERROR):
            yield make_problem(result, folder, check)


def make_problem(result: Result, folder: str, check: Check) -> Problem:
    """Return a check that did not pass as a problem of the file it looked at."""
    name, _, key = check.where.partition(":")
    home = result.path if name in files.CONFIGS else f"{result.path}/{folder}"
    path = f"{home}/{name}" if "/" not in name else home
    found = f"{key}: {check.found}" if key else check.found
    return Problem(path, check.name, found, check.required, check.remedy or "repeat it")


def audit_problems(tree: Tree, result: Result) -> Iterator[Problem]:
    """Yield what is wrong with the client's audits of one result.

    Checker: compliance_endpoints_check. TEST09 is judged with the performance run.
    """
    wanted = tree.rule(result)
    if wanted is None or not result.is_strict:
        return
    for test, name in AUDITS.items():
        if test not in wanted.compliance:
            continue
        path = f"{result.path}/{files.AUDIT}/audit_{name}.json"
        if tree.listing.is_file(path):
            yield from verdict_problems(tree, path, name)
        elif test in REQUIRED_AUDITS:
            remedy = f"set audit.test to {name} in the configuration, and run it"
            required = f"{test}, which {tree.round.name} wants of {wanted.model}"
            yield missing_rule(path, "no such file", required, remedy)


def verdict_problems(tree: Tree, path: str, name: str) -> Iterator[Problem]:
    """The audit is the one named, passed, and its own figures say so too.

    No checker looks at the figures (client: verify_output_caching).
    """
    remedy = "repeat the audit; look at its reason"
    try:
        audit = Document.read(tree.listing.root / path, tree.listing.root)
        yield from (
            audit_rule(path, found, required, remedy)
            for found, required in find_audit_faults(audit, name)
        )
    except LogError as error:
        yield audit_rule(path, error.found, error.required, error.remedy)


def find_audit_faults(audit: Document, name: str) -> Iterator[tuple[str, str]]:
    """Yield what was found and what it should be."""
    if audit.find("test") != name:
        yield f"test {audit.find('test')!r}", name
    if audit.find("passed") is not True:
        yield f"passed {audit.find('passed')!r}", "true"
    if name != AUDITS["TEST04"]:
        return
    share = audit.number("threshold")
    if not 0 < share <= FASTER:
        yield f"threshold {share:g}", f"above 0, at most {FASTER:g}"
    reference, audited = audit.number("ref_qps"), audit.number("audit_qps")
    if not 0 < audited < reference * (1 + share):
        required = f"below {reference * (1 + share):,.6g}, from ref_qps and threshold"
        yield f"audit_qps {audited:,.6g}", required
    for phase in ("ref", "audit"):
        done = audit.integer(f"{phase}_completed")
        asked = audit.integer(f"{phase}_requested")
        if not 0 < asked == done:
            yield f"{phase}: {done:,} of {asked:,} completed", "all of them"
