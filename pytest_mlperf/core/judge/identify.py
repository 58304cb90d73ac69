"""Identify a found run: its benchmark, scenario and round; then judge it."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

from pytest_mlperf.core import compliance
from pytest_mlperf.core import rounds
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.checks.context import Context
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.outcome import check_unreadable
from pytest_mlperf.core.checks.table import CHECKS
from pytest_mlperf.core.compliance.audit import Audit
from pytest_mlperf.core.judge import inferred
from pytest_mlperf.core.judge.judge import judge_log
from pytest_mlperf.core.judge.seeds import check_unknown_seeds
from pytest_mlperf.core.judge.seeds import choose_round
from pytest_mlperf.core.judge.seeds import find_round
from pytest_mlperf.core.judge.seeds import get_seeds
from pytest_mlperf.core.logs.discover import FoundRun
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.rounds.names import resolve_benchmark
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

REPEAT = "repeat the run; this one proves nothing"


def identify(place: FoundRun, round_name: str = "") -> Verdict:
    """Return the verdict of a found run, by the names in its path.

    ``round_name`` decides the round; without it the seeds do: ``seeds.choose_round``.
    Raises ``ValueError`` for an unknown round only.
    """
    try:
        if place.problem:
            raise place.problem
        log = Log.read(place.path)
        ran = Scenario.parse(log.text("effective_scenario"))
        mode = Mode.COMPLIANCE if place.test else place.mode or read_mode(log)
    except LogError as error:
        return verdict_not_judged(place, round_name, check_unreadable("log", error))
    except ValueError as error:
        check = Check("scenario", Status.ERROR, str(error), "LoadGen's", DETAIL, REPEAT)
        return verdict_not_judged(place, round_name, check)
    wanted = place.scenario or ran
    place = replace(place, scenario=wanted, mode=mode)
    chosen = choose_round(log, place, round_name)
    name, how_found = chosen.name, ""
    place = resolve_by_round(place, name)
    if not place.benchmark:
        only = find_only_rule(log, place, name)
        if only is None:
            return verdict_not_judged(place, name, no_benchmark_check(place))
        size = read_dataset_size(log)
        how_found = (
            f"{only.model}: of {name}'s benchmarks only it has {size:,} samples;"
        )
        how_found += " the path names none"
        place = replace(place, benchmark=only.benchmark, target=only.target)
    if not name:
        known = rounds.find_newest(place.benchmark, place.target, wanted)
        check = check_unknown_seeds(log) if known else no_rule_check(place, "")
        return verdict_not_judged(place, "", check)
    # Interactive drives LoadGen as Server.
    ran = wanted if wanted.loadgen == ran.value else ran
    verdict = judge_under(place, log, ran, name, chosen.how)
    if how_found:
        verdict = replace(verdict, facts={**verdict.facts, "benchmark": how_found})
    return verdict


def resolve_by_round(place: FoundRun, name: str) -> FoundRun:
    """Return the place with the benchmark that its model is in a round.

    Open division's own models are mapped by each round's checker.
    """
    found = resolve_benchmark(place.model, name) if place.model and name else None
    if found is None:
        return place
    benchmark, target = found
    return replace(place, benchmark=benchmark, target=target or place.target)


def read_mode(log: Log) -> Mode:
    """Return the log's mode; any run but an accuracy run is a performance run."""
    accuracy = log.text("effective_test_mode") == Mode.ACCURACY.loadgen
    return Mode.ACCURACY if accuracy else Mode.PERFORMANCE


def read_dataset_size(log: Log) -> object:
    """Return the size of the dataset as LoadGen logged it."""
    return log.get("qsl_reported_total_count")


def find_only_rule(log: Log, place: FoundRun, round_name: str) -> Rule | None:
    """Return the rule of the only benchmark with a dataset of the log's size, or None.

    A model of the submitter's own does a benchmark's task on its dataset. Accuracy
    targets share their performance rules; the strictest stands for all of them, but
    for an accuracy run that is held to one.
    """
    wanted, is_accuracy = place.scenario, place.mode is Mode.ACCURACY
    if not round_name or (is_accuracy and place.division != "open"):
        return None
    rules = [
        rule
        for rule in rounds.get(round_name).rules
        if rule.scenario is wanted
        and rule.dataset_size == read_dataset_size(log)
        and rule.use_token_latencies is log.get("requested_use_token_latencies", False)
    ]
    if len({rule.benchmark for rule in rules}) != 1:
        return None
    return max(rules, key=lambda rule: float(rule.target or 0))


def find_rule(name: str, place: FoundRun, scenario: Scenario) -> Rule | None:
    return rounds.get(name).find(place.benchmark, place.target, scenario)


def judge_under(
    place: FoundRun, log: Log, ran: Scenario, name: str, how: str
) -> Verdict:
    """Return the verdict under a round, for the scenario that ran or one inferred."""
    wanted, mode = place.scenario, place.mode
    assert wanted is not None
    assert mode is not None
    legal = ran is wanted or inferred.is_legal(ran, wanted, place.category)
    rule = find_rule(name, place, ran if legal else wanted)
    if rule is None:
        return verdict_not_judged(place, name, no_rule_check(place, name))
    try:
        audit = find_audit(place.test, rule)
    except ValueError as error:
        return verdict_not_judged(place, name, no_audit_check(place, error))
    context = Context(
        facts={**list_facts(place), "round": f"{name}: {how}"},
        waived=open_division_waivers(place, rule),
        expected_s=None if mode is Mode.ACCURACY else compute_expected_s(log, ran),
        audit=audit,
    )
    cell = Cell(rule, "")
    if not legal:
        run = JudgedRun(log, cell, mode, rounds.get(name), context)
        verdict = judge_other_scenario(run, place, ran)
    else:
        verdict = judge_log(log, cell, mode, context)
    if legal and ran is not wanted:
        check = inferred.check_scenario(log, ran, wanted, place.category)
        verdict = replace_check(verdict, check)
        if mode is Mode.PERFORMANCE:
            verdict = inferred.infer_verdict(log, verdict, ran, wanted)
        verdict = replace(verdict, scenario=wanted.value, inferred=ran.value)
    checks = [explain_seed_mismatch(log, place, c) for c in verdict.checks]
    if audit and place.test not in rule.compliance:
        checks.insert(0, unasked_audit_check(place, rule))
    return replace(verdict, checks=tuple(checks))


def find_audit(test: str, rule: Rule) -> Audit | None:
    """Return the settings of a compliance run; None for any other run.

    A test that the round does not ask for is judged by its own settings. Raises
    ``ValueError`` for an unknown test, and for one that the benchmark cannot have.
    """
    return compliance.get(test).resolve(rule) if test else None


def unasked_audit_check(place: FoundRun, rule: Rule) -> Check:
    """Return the note on a compliance run that the round does not ask for."""
    required = " or ".join(rule.compliance) or "no compliance run"
    reason = f"{rule.round} does not ask for {place.test} of {rule.model}; leave it out"
    where = str(place.path)
    return Check("asked_for", Status.WAIVED, place.test, required, where, reason)


def explain_seed_mismatch(log: Log, place: FoundRun, check: Check) -> Check:
    """Return a failed check of the seeds with the name of the round that has them."""
    if check.name != "seeds" or check.status is not Status.FAIL:
        return check
    name = find_round(get_seeds(log), place, place.test)
    hint = f"these are {name}'s: judge it with --round {name}, or {check.remedy}"
    return replace(check, remedy=hint) if name else check


def judge_other_scenario(run: JudgedRun, place: FoundRun, ran: Scenario) -> Verdict:
    """Return the verdict of a run that can stand for no run of its folder's scenario.

    Only what does not depend on a scenario is checked beside that.
    """
    outcomes = (rule.judge(run) for rule in CHECKS if rule.any_scenario)
    checks = tuple(chain.from_iterable(outcomes))
    verdict = replace(
        verdict_not_judged(place, run.round.name, checks[0]), checks=checks
    )
    verdict = replace(verdict, facts=dict(run.context.facts))
    check = inferred.check_scenario(run.log, ran, run.scenario, place.category)
    return replace_check(verdict, check)


def replace_check(verdict: Verdict, check: Check) -> Verdict:
    """Return the verdict with the check of that name replaced."""
    checks = tuple(check if c.name == check.name else c for c in verdict.checks)
    return replace(verdict, checks=checks)


def open_division_waivers(place: FoundRun, rule: Rule) -> dict[str, str]:
    """Return the waivers of the open division: its models need not be as accurate."""
    if place.division != "open":
        return {}
    reason = "open division: accuracy is reported, and held to no target"
    return {f"accuracy_{limit.metric}": reason for limit in rule.accuracy}


def list_facts(place: FoundRun) -> dict[str, str]:
    """Return the facts that the path contains."""
    found = {
        "system": place.system,
        "submitter": place.submitter,
        "division": place.division,
        "category": place.category,
    }
    return {name: text for name, text in found.items() if text}


def compute_expected_s(log: Log, ran: Scenario) -> float | None:
    """Return how long LoadGen expected the run to take; None where it does not say.

    The longer of the minimum duration and the counted queries at the expected rate;
    Offline's samples are 1.1 times what fills the duration.
    """
    try:
        rate = log.number("effective_target_qps")
        seconds = log.integer("effective_min_duration_ms") / 1000
        count = log.integer("effective_min_query_count")
        if ran is Scenario.OFFLINE:
            return log.integer("effective_samples_per_query") / rate
        return max(seconds, count / rate)
    except (LogError, ArithmeticError):
        return None


def verdict_not_judged(place: FoundRun, round_name: str, check: Check) -> Verdict:
    """Return the verdict of a run that cannot be judged, and why.

    Its round and mode are empty where user, path and log do not state them.
    """
    scenario = place.scenario
    model = place.model
    if place.benchmark:
        model = "-".join(filter(None, (place.benchmark, place.target)))
    return Verdict(
        benchmark=model,
        scenario=scenario.value if scenario else "",
        engine="",
        mode=place.test or (place.mode.value if place.mode else ""),
        round=round_name,
        metric=None,
        checks=(check,),
        folder=str(place.path),
        facts=list_facts(place),
    )


def no_benchmark_check(place: FoundRun) -> Check:
    """Return the error of a run whose benchmark is unknown."""
    found, required = "no benchmark in the path", "a benchmark's name above the run"
    if place.model:
        found, required = f"a model of the submitter's own: {place.model}", "official"
    remedy = "pass --benchmark NAME, as in --benchmark bert-99"
    path = str(place.path)
    return Check("benchmark", Status.ERROR, found, required, path, remedy)


def no_audit_check(place: FoundRun, error: ValueError) -> Check:
    """Return the error of a compliance run whose test the round does not have."""
    remedy = "leave the run out of the submission, or pass another --round"
    required = "a compliance test of the benchmark"
    return Check("rule", Status.ERROR, str(error), required, str(place.path), remedy)


def no_rule_check(place: FoundRun, name: str) -> Check:
    """Return the error of a run that a round, or every round, has no rule for."""
    wanted = place.scenario
    assert wanted is not None
    model = "-".join(filter(None, (place.benchmark, place.target)))
    tables = [rounds.get(name)] if name else [rounds.get(r) for r in rounds.ROUNDS]
    rules = [rule for table in tables for rule in table.rules]
    own = [rule for rule in rules if rule.benchmark == place.benchmark]
    has = {f"{rule.model} {rule.scenario.value}" for rule in own}
    has |= set() if has else {rule.model for rule in rules}
    found, required = f"{model} {wanted.value}", f"one of {', '.join(sorted(has))}"
    remedy = "pass --benchmark NAME with its accuracy target, as in bert-99"
    if place.target or not any(rule.target for rule in own):
        remedy = "pass another --round, or --scenario if the folder's name is wrong"
    where = f"the rules of {name}" if name else "the rules of all rounds"
    return Check("rule", Status.ERROR, found, required, where, remedy)
