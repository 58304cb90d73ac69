"""Compliance tests of a result: their files, their PASS lines, and the logs again.

``checker`` is mlcommons/inference b66003e1, tools/submission/submission_checker/
checks/compliance_check.py; ``v5.1.1`` is that tag's submission_checker.py. Nothing is
verified here: ``core.compliance`` compares, and ``core.judge`` judges.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pytest_mlperf.core import compliance
from pytest_mlperf.core.compliance import AuditedRun
from pytest_mlperf.core.compliance import AuditTest
from pytest_mlperf.core.compliance import report
from pytest_mlperf.core.compliance.audit import AcceptsScores
from pytest_mlperf.core.compliance.audit import References
from pytest_mlperf.core.compliance.speed import SpeedTest
from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.accuracy import ACCURACY_TXT
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import SUMMARY
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.submission.check.logs import cut_problems
from pytest_mlperf.core.submission.check.logs import file_problems
from pytest_mlperf.core.submission.check.logs import hash_problems
from pytest_mlperf.core.submission.check.logs import is_cut
from pytest_mlperf.core.submission.check.logs import is_readable
from pytest_mlperf.core.submission.check.logs import make_problem
from pytest_mlperf.core.submission.check.logs import performance_problems
from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.submission.check.problem import make_fault
from pytest_mlperf.core.submission.check.since import is_asked
from pytest_mlperf.core.submission.check.tree import Result
from pytest_mlperf.core.submission.check.tree import Tree
from pytest_mlperf.core.verdict import Status

RUN = "performance/run_1"

folder_rule = make_fault("compliance")
verdict_rule = make_fault("compliance_verdict")


def audit_problems(tree: Tree, result: Result) -> Iterator[Problem]:
    """Yield what is wrong with the compliance tests of one result."""
    wanted = tree.rule(result)
    if wanted is None or not result.is_strict:
        return
    for name in wanted.compliance:
        test = compliance.get(name)
        folder = str(tree.layout.compliance(*result.names, name))
        if not tree.listing.is_folder(folder):
            remedy = f"run {name} with the build of this result, and add its folder"
            required = f"{name}, which {tree.round.name} wants of {wanted.model}"
            yield folder_rule(folder, "no such folder", required, remedy)
            continue
        yield from verdict_problems(tree, folder, test, wanted)
        run = f"{folder}/{RUN}"
        if test.is_timed or tree.listing.is_folder(run):
            yield from performance_problems(tree, result, run, test=name)
        if isinstance(test, SpeedTest):
            yield from speed_problems(tree, result, run, test, wanted)
        if test.keeps_answers:
            yield from answer_problems(tree, folder, test, wanted)


def verdict_problems(
    tree: Tree, folder: str, test: AuditTest, wanted: Rule
) -> Iterator[Problem]:
    """The files of the verification are there, and say that the test was passed.

    Checker: dir_exists_check, accuracy_check, compliance_performance_check.
    """
    for name in test.files:
        if "/" in name:
            continue
        path = f"{folder}/{name}"
        text = tree.listing.text(path, "compliance_verdict")
        if isinstance(text, Problem):
            yield text
        elif name == report.VERIFY_ACCURACY and isinstance(test, AcceptsScores):
            passed = report.has_passed(text)
            yield from score_problems(tree, folder, test, wanted, passed=passed)
        else:
            for found, required in test.missing_proof(text):
                yield verdict_rule(path, found, required, format_remedy(test))


def format_remedy(test: AuditTest) -> str:
    return f"repeat {test.name} and its verification; look at what the file says"


def score_problems(
    tree: Tree, folder: str, test: AcceptsScores, wanted: Rule, *, passed: bool
) -> Iterator[Problem]:
    """The answers agree, or the accuracy over them does.

    v5.1.1, check_compliance_acc_dir: exactly two files, or the four of the fallback.
    """
    listing = tree.listing
    own = f"{folder}/accuracy"
    fallback = {*test.score_files} & {*listing.files(own)}
    if not passed and not fallback:
        required = f"TEST PASS, or {' and '.join(test.score_files)} beside it"
        path = f"{folder}/{report.VERIFY_ACCURACY}"
        yield verdict_rule(path, "no line TEST PASS", required, format_remedy(test))
        passed = True  # The files are those of a test that needs no fallback.
    texts = () if passed else test.score_files
    if is_asked("audit_files", tree.round.name):
        yield from file_problems(listing, own, (ACCURACY, ACCURACY_TXT, *texts))
    if is_readable(listing, own, (ACCURACY, ACCURACY_TXT)):
        yield from cut_problems(listing, f"{own}/{ACCURACY}")
        yield from hash_problems(listing, own)
    if passed or not is_readable(listing, own, texts):
        return
    try:
        agree, found, remedy = test.compare_scores(
            make_audited_run(tree, own, test, wanted)
        )
    except LogError as error:
        path = f"{own}/{Path(error.file).name}"
        yield verdict_rule(path, error.found, error.required, error.remedy)
        return
    if not agree:
        path = f"{own}/{test.score_files[-1]}"
        yield verdict_rule(path, found, "the accuracy run's", remedy)


def speed_problems(
    tree: Tree, result: Result, run: str, test: SpeedTest, wanted: Rule
) -> Iterator[Problem]:
    """The audited run is as fast as the result beside it, compared again."""
    name = test.speed_reference
    reference = str(tree.layout.performance(*result.names))
    if name in wanted.compliance:
        reference = f"{tree.layout.compliance(*result.names, name)}/{RUN}"
    if not all(
        is_readable(tree.listing, f, (SUMMARY, DETAIL)) for f in (run, reference)
    ):
        return
    if is_inferred(tree, result, reference, run):
        return
    references = {name: tree.listing.root / reference}
    compared = make_audited_run(tree, run, test, wanted, references)
    for check in test.compare_speed(compared).checks:
        # A log that cannot be read is a problem of its own run already.
        if check.status is Status.FAIL:
            yield make_problem(run, check)


def is_inferred(tree: Tree, result: Result, reference: str, run: str) -> bool:
    """True where another scenario stands for the result, and the test ran its own.

    Two scenarios' figures say nothing of each other; official results of v2.0 have it.
    """
    try:
        stands_for, ran = (
            Log.read(tree.listing.root / folder).text("effective_scenario")
            for folder in (reference, run)
        )
    except LogError:
        return False  # A problem of the run's own.
    own = result.scenario
    return own is not None and stands_for != ran == own.loadgen


def answer_problems(
    tree: Tree, folder: str, test: AuditTest, wanted: Rule
) -> Iterator[Problem]:
    """The logged answers, as far as they are in the tree, pass the test again."""
    own = f"{folder}/accuracy"
    path = f"{own}/{ACCURACY}"
    if not is_readable(tree.listing, own, (ACCURACY,)):
        remedy = "put the answers there that LoadGen logged in this test"
        required = "the logged answers"
        yield folder_rule(path, "no such file, or an empty one", required, remedy)
        return
    problems = list(cut_problems(tree.listing, path))
    yield from problems
    if problems or is_cut(tree.listing, path):
        return
    audited = make_audited_run(tree, own, test, wanted)
    if not test.can_verify_again(audited.folder):
        return
    for finding in test.verify(audited):
        for check in finding.checks:
            if check.status is not Status.PASS:
                yield make_problem(own, check)


def make_audited_run(
    tree: Tree,
    folder: str,
    test: AuditTest,
    wanted: Rule,
    references: References | None = None,
) -> AuditedRun:
    """Return the audited run of a folder of the tree."""
    audit = compliance.find(test.name, wanted)
    return AuditedRun(audit, wanted, tree.listing.root / folder, references or {})
