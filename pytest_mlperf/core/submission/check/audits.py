"""Compliance tests of a result: their files, their PASS lines, and the logs again.

``checker`` is mlcommons/inference b66003e1, tools/submission/submission_checker/
checks/compliance_check.py; ``v5.1.1`` is that tag's submission_checker.py. Nothing is
verified here: ``core.compliance`` compares, and ``core.appraise`` judges.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pytest_mlperf.core.compliance import audit as audits
from pytest_mlperf.core.compliance import report
from pytest_mlperf.core.compliance.answers import records
from pytest_mlperf.core.compliance.verify import Case
from pytest_mlperf.core.compliance.verify import attempt
from pytest_mlperf.core.compliance.verify import same_speed
from pytest_mlperf.core.compliance.verify import shares
from pytest_mlperf.core.compliance.verify import token_rules
from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.accuracy import ACCURACY_TXT
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import SUMMARY
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.submission.check.logs import as_problem
from pytest_mlperf.core.submission.check.logs import cut_problems
from pytest_mlperf.core.submission.check.logs import file_problems
from pytest_mlperf.core.submission.check.logs import hash_problems
from pytest_mlperf.core.submission.check.logs import is_cut
from pytest_mlperf.core.submission.check.logs import performance_problems
from pytest_mlperf.core.submission.check.logs import readable
from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.submission.check.problem import rule
from pytest_mlperf.core.submission.check.tree import Result
from pytest_mlperf.core.submission.check.tree import Tree
from pytest_mlperf.core.verdict import Status

TIMED = ("TEST01", "TEST04", "TEST04-A", "TEST04-B", "TEST05")
"""Tests whose performance run is held to every rule of one (performance_check)."""
TOKENS = (
    ("First token check pass: True", "First token check pass: Skipped"),
    ("EOS check pass: True",),
    ("Sample length check pass: True",),
)
"""TEST06: lines of which one each must be in verify_accuracy.txt."""
RUN = "performance/run_1"

folder_rule = rule("compliance")
verdict_rule = rule("compliance_verdict")


def audit_problems(tree: Tree, result: Result) -> Iterator[Problem]:
    """Yield what is wrong with the compliance tests of one result."""
    wanted = tree.rule(result)
    if wanted is None or not result.held:
        return
    for test in wanted.compliance:
        folder = str(tree.layout.compliance(*result.names, test))
        if not tree.listing.is_folder(folder):
            remedy = f"run {test} with the build of this result, and add its folder"
            required = f"{test}, which {tree.round.name} wants of {wanted.model}"
            yield folder_rule(folder, "no such folder", required, remedy)
            continue
        yield from verdict_problems(tree, folder, test, wanted)
        run = f"{folder}/{RUN}"
        if test in TIMED or tree.listing.is_folder(run):
            yield from performance_problems(tree, result, run, test=test)
        if test in TIMED:
            yield from speed_problems(tree, result, run, test, wanted)
        if test == "TEST06":
            yield from token_problems(tree, folder, wanted)


def verdict_problems(
    tree: Tree, folder: str, test: str, wanted: Rule
) -> Iterator[Problem]:
    """The files of the verification are there, and say that the test was passed.

    Checker: dir_exists_check, accuracy_check, compliance_performance_check.
    """
    nowhere = tree.listing.root / folder / "nowhere"
    for name, _ in report.official_files(test, nowhere):
        if "/" in name:
            continue
        path = f"{folder}/{name}"
        text = tree.listing.text(path, "compliance_verdict")
        if isinstance(text, Problem):
            yield text
            continue
        lines = {line.strip() for line in text.splitlines()}
        remedy = f"repeat {test} and its verification; look at what the file says"
        if test == "TEST06":
            for legal in TOKENS:
                if not lines & set(legal):
                    required = " or ".join(repr(line) for line in legal)
                    yield verdict_rule(path, "no such line", required, remedy)
        elif test == "TEST01" and name == report.VERIFY_ACCURACY:
            passed = report.passes(text)
            yield from answer_problems(tree, folder, wanted, passed=passed)
        elif "TEST PASS" not in text:
            yield verdict_rule(path, "no TEST PASS", "a line TEST PASS", remedy)


def answer_problems(
    tree: Tree, folder: str, wanted: Rule, *, passed: bool
) -> Iterator[Problem]:
    """TEST01's answers agree, or the accuracy over them does.

    v5.1.1, check_compliance_acc_dir: exactly two files, or the four of the fallback.
    """
    listing = tree.listing
    own = f"{folder}/accuracy"
    fallback = {report.BASELINE, report.COMPLIANCE} & set(listing.files(own))
    if not passed and not fallback:
        required = f"TEST PASS, or {report.BASELINE} and {report.COMPLIANCE} beside it"
        remedy = "repeat TEST01 and its verification; look at what the file says"
        path = f"{folder}/{report.VERIFY_ACCURACY}"
        yield verdict_rule(path, "no line TEST PASS", required, remedy)
        passed = True  # The files are those of a test that needs no fallback.
    texts = () if passed else (report.BASELINE, report.COMPLIANCE)
    yield from file_problems(listing, own, (ACCURACY, ACCURACY_TXT, *texts))
    if readable(listing, own, (ACCURACY, ACCURACY_TXT)):
        yield from cut_problems(listing, f"{own}/{ACCURACY}")
        yield from hash_problems(listing, own)
    if passed or not readable(listing, own, texts):
        return
    case = Case(audits.find("TEST01", wanted), wanted, place(tree, own), {})
    try:
        agree, found, remedy = shares(case)
    except LogError as error:
        path = f"{own}/{Path(error.file).name}"
        yield verdict_rule(path, error.found, error.required, error.remedy)
        return
    if not agree:
        path = f"{own}/{report.COMPLIANCE}"
        yield verdict_rule(path, found, "the accuracy run's", remedy)


def speed_problems(
    tree: Tree, result: Result, run: str, test: str, wanted: Rule
) -> Iterator[Problem]:
    """The audited run is as fast as the result beside it, compared again."""
    audit = audits.find(test, wanted)
    which = {"TEST04-B": "TEST04-A"}.get(test, "performance")
    if test == "TEST04-A":
        return
    reference = str(tree.layout.performance(*result.names))
    if which != "performance":
        reference = f"{tree.layout.compliance(*result.names, which)}/{RUN}"
    if not all(readable(tree.listing, f, (SUMMARY, DETAIL)) for f in (run, reference)):
        return
    references = {which: place(tree, reference)}
    case = Case(audit, wanted, place(tree, run), references)
    for check in attempt(case, same_speed).checks:
        # A log that cannot be read is a problem of its own run already.
        if check.status is Status.FAIL:
            yield as_problem(run, check)


def token_problems(tree: Tree, folder: str, wanted: Rule) -> Iterator[Problem]:
    """TEST06's answers, as far as they are in the tree, compared again."""
    own = f"{folder}/accuracy"
    path = f"{own}/{ACCURACY}"
    if not readable(tree.listing, own, (ACCURACY,)):
        remedy = "put the answers there that LoadGen logged in this test"
        required = "the logged answers"
        yield folder_rule(path, "no such file, or an empty one", required, remedy)
        return
    problems = list(cut_problems(tree.listing, path))
    yield from problems
    if problems or is_cut(tree.listing, path) or not int32(tree, own):
        return
    case = Case(audits.find("TEST06", wanted), wanted, place(tree, own), {})
    for check in attempt(case, token_rules).checks:
        if check.status is not Status.PASS:
            yield as_problem(own, check)


def int32(tree: Tree, folder: str) -> bool:
    """True where the tokens are of 4 bytes; TEST06's script takes others by option."""
    try:
        first = next(records(place(tree, folder)), {})
        return bool(len(first["data"]) == 8 * first["token_count"])
    except LogError:
        return True  # What is wrong, the verification says.
    except (KeyError, TypeError):
        return False


def place(tree: Tree, folder: str) -> Path:
    return tree.listing.root / folder
