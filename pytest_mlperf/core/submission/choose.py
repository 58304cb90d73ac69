"""Chooses a submission's runs: the best complete set per benchmark and scenario.

Nothing is dropped silently: every run that is not taken is listed with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_mlperf.core import rounds
from pytest_mlperf.core.compliance import AuditFinding
from pytest_mlperf.core.compliance import find
from pytest_mlperf.core.compliance import verify
from pytest_mlperf.core.rounds import Round
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.submission.request import Entry
from pytest_mlperf.core.submission.request import Key
from pytest_mlperf.core.submission.request import SubmissionRequest
from pytest_mlperf.core.submission.request import find_missing
from pytest_mlperf.core.submission.runs import ACCURACY
from pytest_mlperf.core.submission.runs import PERFORMANCE
from pytest_mlperf.core.submission.runs import Run
from pytest_mlperf.core.types import REHEARSAL
from pytest_mlperf.core.types import STREAMS
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status

INCOMPLETE = "no complete set of runs of one build"


@dataclass(frozen=True, slots=True)
class Choice:
    """What is taken, what is not, and why nothing can be written."""

    entries: tuple[Entry, ...]
    others: tuple[tuple[Run, str], ...]
    refusals: tuple[str, ...]


def choose(
    runs: Sequence[Run],
    ask: SubmissionRequest,
    there: Iterable[Key] = (),
    earlier: Sequence[Run] = (),
) -> Choice:
    """Return the best complete set of runs of each benchmark and scenario.

    ``there`` are the rows of the tree that is completed: they count as present. The
    open division asks for no row: an incomplete one is left out. So is what only an
    ``earlier`` session ran, whose items no selection of this one can leave out.
    """
    table = rounds.get(ask.round)
    entries: list[Entry] = []
    others: list[tuple[Run, str]] = []
    refusals: list[str] = []
    usable: dict[Key, list[Run]] = {}
    for run in [*earlier, *runs]:
        if reason := explain_unfit(run, ask):
            others.append((run, reason))
        else:
            usable.setdefault(run.key, []).append(run)
    wanted = {*there, *list_rows(runs, ask)}
    lacking: list[Rule] = []
    for key in list_rows([*earlier, *runs], ask):
        rule = find_rule(table, key)
        if rule is None or ask.table not in rule.categories:
            why = f"{ask.round} has no {' '.join(key)} for {ask.category}"
            others += [(run, why) for run in usable.get(key, [])]
            continue
        entry, left = choose_entry(rule, usable.get(key, []), ask)
        others += left
        if entry:
            entries.append(entry)
        elif key not in there and ask.is_strict:
            lacking.append(rule)
    present = {*wanted, *((e.rule.model, e.rule.scenario.value) for e in entries)}
    for model in sorted({model for model, _ in present}):
        rows = {key for key in present if key[0] == model}
        found = []
        for rule in (r for r in lacking if r.model == model):
            key = (model, rule.scenario.value)
            if key in wanted or ask.table in rule.required_in:
                found.append(_explain_none(key, others))
                rows.add(key)
        found += find_missing(table, ask, rows)
        if rows & wanted:
            refusals += found
        elif found:
            why = f"left out with {model}, which this session did not run: {found[0]}"
            left_out = [entry for entry in entries if entry.rule.model == model]
            entries = [entry for entry in entries if entry.rule.model != model]
            others += [(run, why) for entry in left_out for run in entry.runs]
    if not entries and not refusals:
        refusals.append(_explain_nothing(ask, others))
    return Choice(tuple(entries), tuple(others), tuple(dict.fromkeys(refusals)))


def list_rows(runs: Iterable[Run], ask: SubmissionRequest) -> list[Key]:
    """Return the rows that were run for the round, each once, in their order."""
    found = (run.key for run in runs if run.verdict.round == ask.round)
    return list(dict.fromkeys(found))


def explain_unfit(run: Run, ask: SubmissionRequest) -> str:
    """Return why a run cannot be part of the submission; empty where it can."""
    verdict = run.verdict
    if verdict.round != ask.round:
        return f"judged by {verdict.round}, the submission is for {ask.round}"
    if not run.verdict.run.workload:
        return (
            "its verdict.json is of an older pytest-mlperf and does not say what the "
            "run used: run it again"
        )
    if run.trouble:
        return f"its item did not pass: {run.trouble}"
    if not verdict.valid:
        bad = [c for c in verdict.checks if c.status.value in ("fail", "error")]
        return f"{verdict.outcome}: {bad[0] if bad else 'no rule was checked'}"
    if (REHEARSAL in verdict.labels) != ask.rehearsal:
        what = "rehearsed" if REHEARSAL in verdict.labels else "measured"
        return f"{what}, and one tree holds either rehearsed or measured runs"
    blemishes = "; ".join(run.blemishes(allowed=[REHEARSAL]))
    if blemishes and ask.is_strict:
        return f"not for the {ask.division} division: {blemishes}"
    return ""


def choose_entry(
    rule: Rule, runs: Sequence[Run], ask: SubmissionRequest
) -> tuple[Entry | None, list[tuple[Run, str]]]:
    """Return the entry with the best performance run whose set is complete.

    Accuracy and compliance are those of the same engine build, the newest where
    there are several.
    """
    reasons: dict[int, str] = {}
    chosen: Entry | None = None
    tests = rule.compliance if ask.is_strict else ()
    for run in rank_runs(rule, [r for r in runs if r.mode == PERFORMANCE]):
        if chosen:
            than = f"is not better than {chosen.performance.score}"
            reasons[id(run)] = f"{run.score} {than}"
            continue
        found = complete_entry(rule, run, runs, tests)
        if isinstance(found, Entry):
            chosen = found
        else:
            reasons[id(run)] = found
    taken = {id(run) for run in chosen.runs} if chosen else set()
    spare = "a newer or better run of the same kind was taken"
    if not chosen:
        spare = INCOMPLETE
    left = [(r, reasons.get(id(r), spare)) for r in runs if id(r) not in taken]
    return chosen, left


def complete_entry(
    rule: Rule, run: Run, runs: Sequence[Run], tests: Sequence[str]
) -> Entry | str:
    """Return a performance run with all that belongs to it, or what is missing."""
    same = [r for r in reversed(runs) if r.build == run.build]
    taken = {PERFORMANCE: run}
    verified: dict[str, tuple[AuditFinding, ...]] = {}
    texts = []
    for mode in (ACCURACY, *tests):
        why = ""
        for kin in (r for r in same if r.mode == mode):
            findings = verify_again(rule, kin, taken)
            bad = next((c for f in findings for c in f.checks if not is_ok(c)), None)
            if bad is None:
                taken[mode] = kin
                if findings:
                    verified[mode] = findings
                break
            why = why or f"{kin.folder.name} does not confirm this run: {bad}"
        if mode not in taken:
            texts.append(why or _explain_lacking(run, mode, runs))
    if texts:
        return f"{'; '.join(texts)}: run them in one session with one engine build"
    audits = {test: taken[test] for test in tests}
    return Entry(rule, run, taken[ACCURACY], audits, verified)


def verify_again(
    rule: Rule, run: Run, taken: Mapping[str, Run]
) -> tuple[AuditFinding, ...]:
    """Verify an audit against the chosen runs if it was compared with others."""
    if run.mode not in rule.compliance:
        return ()
    compared = run.verdict.run.compared_with
    if all(compared.get(name, "") in ("", str(taken[name].folder)) for name in taken):
        return ()
    folders = {name: one.folder for name, one in taken.items()}
    audit = find(run.mode, rule)
    if not set(audit.needs) <= folders.keys():
        return ()
    return verify(audit, rule, run.folder, folders)


def is_ok(check: Check) -> bool:
    return check.status in (Status.PASS, Status.WAIVED)


def rank_runs(rule: Rule, runs: Iterable[Run]) -> list[Run]:
    """Return performance runs, the best first; of equals the newer."""
    sign = 1 if rule.scenario in STREAMS else -1

    def key(run: Run) -> float:
        return sign * (run.verdict.metric.value if run.verdict.metric else 0.0)

    newest_first = [run for run in reversed(list(runs)) if run.verdict.metric]
    return sorted(newest_first, key=key)


def find_rule(table: Round, key: Key) -> Rule | None:
    """Return the rule of a row; None where the round does not have it."""
    found = (r for r in table.rules if (r.model, r.scenario.value) == key)
    return next(found, None)


def _explain_lacking(run: Run, mode: str, runs: Sequence[Run]) -> str:
    """Say which run is missing, and which build has one."""
    others = [r for r in runs if r.mode == mode]
    if others:
        other, own = _describe_build(others[-1]), _describe_build(run)
        return f"{mode} ran {other}, performance ran {own}"
    return f"no usable {mode} run"


def _explain_none(key: Key, others: Iterable[tuple[Run, str]]) -> str:
    """Return the refusal of a row without a complete set: each reason once."""
    reasons: dict[str, list[str]] = {}
    for run, reason in others:
        if run.key == key and reason != INCOMPLETE:
            reasons.setdefault(reason, []).append(run.folder.name)
    # What is wrong with the run that counts stands before what follows from it.
    ordered = sorted(reasons.items(), key=lambda pair: PERFORMANCE not in pair[1])
    texts = [f"{reason} ({', '.join(names)})" for reason, names in ordered]
    if not any(PERFORMANCE in name for names in reasons.values() for name in names):
        texts.insert(0, "no performance run: run it and what belongs to it")
    return f"{' '.join(key)}: {'; '.join(texts)}"


def _explain_nothing(ask: SubmissionRequest, others: Iterable[tuple[Run, str]]) -> str:
    """Return the refusal of runs that make no entry, with the reason of each."""
    texts = [f"{run.name}: {why}" for run, why in others if why != INCOMPLETE]
    return (
        f"nothing to submit: no complete set of runs for the {ask.division} division, "
        f"{ask.round}, {ask.category}: {'; '.join(texts) or 'none was made'}"
    )


def _describe_build(run: Run) -> str:
    engine, build, devices, *where = run.build
    several = f" on {devices} devices" * (devices != "1")
    return f"{engine} build {build[:12] or 'unknown'}{several}" + "".join(
        f" with {flag}" for flag in where
    )
