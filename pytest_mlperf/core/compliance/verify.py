"""One compliance run's verification: folders in, checks and official files out."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.core.checks.context import check
from pytest_mlperf.core.compliance import answers
from pytest_mlperf.core.compliance import entropy
from pytest_mlperf.core.compliance import figures
from pytest_mlperf.core.compliance import report
from pytest_mlperf.core.compliance import tokens
from pytest_mlperf.core.compliance.audit import Audit
from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.accuracy import ACCURACY_TXT
from pytest_mlperf.core.logs.accuracy import digest
from pytest_mlperf.core.logs.accuracy import read_accuracy_txt
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.rounds.rule import Rule
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status

References = Mapping[str, Path]
"""What an audit ``needs`` -> the folder of that run."""
TOLERANCE = "compliance_performance"
"""The one check that a repetition may heal: a disturbed machine is no wrong answer."""
DELTAS = {
    ("stable-diffusion-xl", "CLIP_SCORE"): 1.0,
    ("stable-diffusion-xl", "FID_SCORE"): 2.0,
}
"""Percent; accuracy-delta-perc of submission_checker/constants.py (b66003e1)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Part of a verification: its checks, and the official file that says so."""

    checks: tuple[Check, ...]
    file: str
    text: str


def verify(
    audit: Audit, rule: Rule, folder: Path, references: References
) -> tuple[Finding, ...]:
    """Return what the official definitions say of the audited run in a folder.

    Never raises for what is in the folders: a log that cannot be read is a check in
    error.
    """
    judges: Mapping[str, tuple[Judge, ...]] = {
        "TEST01": (same_answers, same_speed),
        "TEST04": (same_speed,),
        "TEST04-A": (),
        "TEST04-B": (same_speed,),
        "TEST05": (same_speed,),
        "TEST06": (token_rules,),
        "TEST07": (accuracy_reached,),
        "TEST08": (same_entropy,),
        "TEST09": (output_length,),
    }
    case = Case(audit, rule, folder, references)
    return tuple(attempt(case, judge_one) for judge_one in judges[audit.name])


@dataclass(frozen=True, slots=True)
class Case:
    """An audited run with what it is compared with."""

    audit: Audit
    rule: Rule
    folder: Path
    references: References


Judge = Callable[[Case], Finding]


def attempt(case: Case, judge_one: Judge) -> Finding:
    """Return a finding; one that the logs cannot answer is in error."""
    try:
        return judge_one(case)
    except LogError as error:
        name, file = "compliance_accuracy", report.VERIFY_ACCURACY
        if judge_one is same_speed:
            name, file = TOLERANCE, report.VERIFY_PERFORMANCE
        if judge_one is output_length:
            name, file = "compliance_output_length", report.VERIFY_LENGTH
        found = Check(
            name,
            Status.ERROR,
            error.found,
            error.required,
            error.where,
            error.remedy,
        )
        return Finding((found,), file, f"TEST FAIL: {error.found}\n")


def same_answers(case: Case) -> Finding:
    """TEST01's accuracy part, with its way out for what is not deterministic."""
    found = answers.compare(case.references["accuracy"], case.folder)
    same = found.matched - found.different
    text = f"{same:,} of {found.matched:,} answers agree in the first {found.element}"
    if found.further:
        text += f", {found.further:,} of them differ later"
    if found.unknown:
        text += f", {found.unknown:,} of samples that the accuracy run lacks"
    required = "all of them, and at least one"
    passed, remedy = found.passed, ""
    if not passed and found.matched:
        passed, score, remedy = shares(case)
        text += f"; {score}"
        required += ", or the same accuracy"
    if not found.matched:
        remedy = "LoadGen logged no answer of a known sample: repeat the run"
    made = check("compliance_accuracy", passed, text, required, ACCURACY, remedy)
    return Finding((made,), report.VERIFY_ACCURACY, report.answers(found))


def shares(case: Case) -> tuple[bool, str, str]:
    """Return whether baseline and compliance score agree, found and remedy.

    check_compliance_acc_dir of both checkers: |1 - baseline / compliance| within 1 %,
    0.1 % where the benchmark's name has 99.9.
    """
    baseline = read_accuracy_txt(case.folder, report.BASELINE).metrics
    compliance = read_accuracy_txt(case.folder, report.COMPLIANCE).metrics
    shown = []
    for limit in case.rule.accuracy:
        name = limit.metric
        allowed = DELTAS.get((case.rule.benchmark, name))
        if allowed is None:
            allowed = 0.1 if "99.9" in case.rule.model else 1.0
        before, after = baseline.get(name, 0.0), compliance.get(name, 0.0)
        if not before or not after:
            remedy = f"both texts need a {name} above 0 to be compared"
            return False, f"{name} {after:g} against {before:g}", remedy
        delta = abs(1 - before / after) * 100
        shown.append(f"{name} {after:g} against {before:g} ({delta:.3f} %)")
        if delta > allowed:
            remedy = f"{name} may differ by {allowed:g} %: the engine answers otherwise"
            remedy += " in performance mode than in accuracy mode"
            return False, shown[-1], remedy
    return bool(shown), ", ".join(shown) or "no metric in the round", ""


def same_speed(case: Case) -> Finding:
    """The performance part of TEST01, TEST04, TEST04-B and TEST05."""
    name = case.audit.name
    which = "TEST04-A" if name == "TEST04-B" else "performance"
    reference = Log.read(case.references[which])
    tested = Log.read(case.folder)
    found = figures.compare(name, reference, tested, v2=case.rule.round == "v2.0")
    text = found.invalid or f"{found.tested:,.6g} against {found.reference:,.6g}"
    remedy = "let nothing else work on this machine, and repeat the run"
    if name.startswith("TEST04"):
        remedy = "look for a cache: the same sample must not be answered faster"
        remedy += "; if there is none, repeat performance and this run on a quiet one"
    if found.invalid:
        remedy = "see the checks that failed with it"
    made = check(TOLERANCE, found.passed, text, found.required, DETAIL, remedy)
    return Finding((made,), report.VERIFY_PERFORMANCE, report.performance(name, found))


def token_rules(case: Case) -> Finding:
    """TEST06."""
    streamed = case.audit.scenario != "Offline"
    found = tokens.consistency(case.folder, streamed=streamed)
    rows = (
        ("first_token", found.first_token, "the first token as it was reported"),
        ("single_eos", found.ending, "at most one end of sequence in the end"),
        ("token_count", found.length, "as many tokens as were reported"),
    )
    checks = tuple(
        check(
            f"compliance_{name}",
            sample is None,
            f"{found.entries:,} answers" if sample is None else f"sample {sample}",
            required,
            ACCURACY,
            "give LoadGen the tokens that the model made, each once",
        )
        for name, sample, required in rows
        if streamed or name != "first_token"
    )
    return Finding(checks, report.VERIFY_ACCURACY, report.consistency(found))


def accuracy_reached(case: Case) -> Finding:
    """TEST07."""
    least = case.audit.limits["test07_accuracy_threshold"]
    path = case.folder / report.COMPLIANCE
    score = read_accuracy_txt(case.folder, report.COMPLIANCE).metrics.get("exact_match")
    printed = path.read_text(encoding="utf-8").rstrip()
    made = check(
        "compliance_accuracy",
        score is not None and score >= least,
        f"exact_match {score if score is not None else 'not there'}",
        f"at least {least:g}",
        report.COMPLIANCE,
        "the performance run must answer as the accuracy run does",
    )
    text = report.threshold(printed, score, least)
    return Finding((made,), report.VERIFY_ACCURACY, text)


def same_entropy(case: Case) -> Finding:
    """TEST08."""
    found = entropy.compare(case.references["accuracy"], case.folder)
    entries = found.matched + found.unmatched
    text = f"{found.matched:,} of {entries:,} samples matched, {found.different:,} "
    text += f"differ, by {found.worst:.3%} at most"
    made = check(
        "compliance_accuracy",
        found.passed,
        text,
        f"every sample within {entropy.TOLERANCE:.1%}",
        ACCURACY,
        "the performance run must predict as the accuracy run does",
    )
    return Finding((made,), report.VERIFY_ACCURACY, report.entropy(entries, found))


def output_length(case: Case) -> Finding:
    """TEST09."""
    found = tokens.lengths(case.folder)
    low = case.audit.limits["test09_min_output_tokens"]
    high = case.audit.limits["test09_max_output_tokens"]
    made = check(
        "compliance_output_length",
        low <= found.mean <= high,
        f"{found.mean:,.2f} tokens on average",
        f"{low:g} to {high:g}",
        ACCURACY,
        "generate with the reference's parameters; answers must not be cut",
    )
    text = report.output_length(found, low, high)
    return Finding((made,), report.VERIFY_LENGTH, text)


def write(audit: Audit, folder: Path, findings: tuple[Finding, ...]) -> None:
    """Write the official files into the run's folder, and the answers' hash."""
    for finding in findings:
        (folder / finding.file).write_text(finding.text, encoding="utf-8")
    if audit.samples_answers:
        text = f"hash={digest(folder)}\n"
        (folder / ACCURACY_TXT).write_text(text, encoding="utf-8")
