"""From a run that was found to its verdict: what it is held to, and by which round."""

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
from pytest_mlperf.core.judge import inferred
from pytest_mlperf.core.judge.judge import judge_log
from pytest_mlperf.core.logs.discover import Place
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict


def appraise(place: Place, round_name: str = "") -> Verdict:
    """Return the verdict of a run that was found, held to what its place says.

    ``round_name`` decides the round; without it the log's seeds do, and without
    these it is the newest round that has the combination. Raises ``ValueError`` for
    an unknown round only.
    """
    try:
        if place.problem:
            raise place.problem
        log = Log.read(place.path)
        ran = Scenario.parse(log.text("effective_scenario"))
        mode = Mode.COMPLIANCE if place.test else place.mode or mode_of(log)
    except LogError as error:
        return untold(place, round_name, check_unreadable("log", error))
    except ValueError as error:
        check = Check("scenario", Status.ERROR, str(error), "LoadGen's", DETAIL, NO)
        return untold(place, round_name, check)
    wanted = place.scenario or ran
    place = replace(place, scenario=wanted, mode=mode)
    told_by = ""
    if not place.benchmark:
        name = round_name or seeded_by(log, place.test)
        found = fitting(log, place, name)
        if found is None:
            return untold(place, name, nameless(place))
        told_by = f"{found.model}: of {name}'s benchmarks only it has {total(log):,}"
        told_by += " samples; the path names none"
        place = replace(place, benchmark=found.benchmark, target=found.target)
    name, how = chosen(log, place, round_name)
    if not name:
        return untold(place, round_name, unknown(place, ""))
    # Interactive drives LoadGen as Server.
    ran = wanted if wanted.loadgen == ran.value else ran
    verdict = held_to(place, log, ran, name, how)
    if told_by:
        verdict = replace(verdict, facts={**verdict.facts, "benchmark": told_by})
    return verdict


NO = "repeat the run; this one proves nothing"


def mode_of(log: Log) -> Mode:
    """Return what the log was made for; whatever is no accuracy run is performance."""
    accuracy = log.text("effective_test_mode") == Mode.ACCURACY.loadgen
    return Mode.ACCURACY if accuracy else Mode.PERFORMANCE


def total(log: Log) -> object:
    """Return how many samples the dataset has, as LoadGen was told."""
    return log.get("qsl_reported_total_count")


def fitting(log: Log, place: Place, round_name: str) -> Rule | None:
    """Return the only benchmark whose dataset has the log's size; None without one.

    A model of the submitter's own does a benchmark's task on its dataset. Accuracy
    targets share their performance rules; the strictest stands for all of them, but
    for an accuracy run that is held to one.
    """
    wanted, held = place.scenario, place.mode is Mode.ACCURACY
    if not round_name or (held and place.division != "open"):
        return None
    rules = [
        rule
        for rule in rounds.get(round_name).rules
        if rule.scenario is wanted
        and rule.dataset_size == total(log)
        and rule.use_token_latencies is log.get("requested_use_token_latencies", False)
    ]
    if len({rule.benchmark for rule in rules}) != 1:
        return None
    return max(rules, key=lambda rule: float(rule.target or 0))


def chosen(log: Log, place: Place, round_name: str) -> tuple[str, str]:
    """Return the round that judges a run and how it was chosen; empty for none."""
    if round_name:
        return rounds.get(round_name).name, "as asked for"
    assert place.scenario is not None
    by_seeds = seeded_by(log, place.test)
    if by_seeds and find(by_seeds, place, place.scenario):
        return by_seeds, "its seeds are in the log"
    newest = rounds.newest(place.benchmark, place.target, place.scenario)
    if not newest:
        return "", ""
    return newest.name, "the newest that has it; the log's seeds are of no other"


def seeded_by(log: Log, test: str) -> str:
    """Return the newest round whose seeds a log has; empty where it is none."""
    keys = ("qsl", "sample_index", "schedule")
    logged = tuple(log.get(f"effective_{key}_rng_seed") for key in keys)
    for name in reversed(rounds.ROUNDS):
        seeds = rounds.get(name).seeds
        own = compliance.get(test).seeds(seeds) if test in compliance.names() else seeds
        if own and logged == (own.qsl, own.sample_index, own.schedule):
            return name
    return ""


def find(name: str, place: Place, scenario: Scenario) -> Rule | None:
    return rounds.get(name).find(place.benchmark, place.target, scenario)


def held_to(place: Place, log: Log, ran: Scenario, name: str, how: str) -> Verdict:
    """Return the verdict under a round, of the scenario that ran or one inferred."""
    wanted, mode = place.scenario, place.mode
    assert wanted is not None
    assert mode is not None
    legal = ran is wanted or inferred.legal(ran, wanted, place.category)
    rule = find(name, place, ran if legal else wanted)
    if rule is None:
        return untold(place, name, unknown(place, name))
    round_ = rounds.get(name)
    try:
        audit = compliance.find(place.test, rule) if place.test else None
    except ValueError as error:
        return untold(place, name, untested(place, error))
    context = Context(
        facts={**facts(place), "round": f"{name}: {how}"},
        waived=unaimed(place, rule),
        expected_s=None if mode is Mode.ACCURACY else expected_s(log, ran),
        audit=audit,
    )
    cell = Cell(rule, "")
    if not legal:
        run = JudgedRun(log, cell, mode, rule, round_, context)
        verdict = of_another_scenario(run, place, ran)
    else:
        verdict = judge_log(log, cell, mode, rule, round_, context)
    if legal and ran is not wanted:
        check = inferred.scenario_check(log, ran, wanted, place.category)
        verdict = told(verdict, check)
        if mode is Mode.PERFORMANCE:
            verdict = inferred.infer(log, verdict, ran, wanted)
        verdict = replace(verdict, scenario=wanted.value, inferred=ran.value)
    return replace(verdict, checks=tuple(whose(log, place, c) for c in verdict.checks))


def whose(log: Log, place: Place, check: Check) -> Check:
    """Return a failed check of the seeds with the round that they are of."""
    if check.name != "seeds" or check.status is not Status.FAIL:
        return check
    name = seeded_by(log, place.test)
    hint = f"these are {name}'s: judge it with --round {name}, or {check.remedy}"
    return replace(check, remedy=hint) if name else check


def of_another_scenario(run: JudgedRun, place: Place, ran: Scenario) -> Verdict:
    """Return the verdict of a run that can stand for no run of its folder's scenario.

    Only what does not depend on a scenario is checked beside that.
    """
    outcomes = (rule.check(run) for rule in CHECKS if rule.any_scenario)
    checks = tuple(chain.from_iterable(outcomes))
    verdict = replace(untold(place, run.round.name, checks[0]), checks=checks)
    verdict = replace(verdict, facts=dict(run.context.facts))
    check = inferred.scenario_check(run.log, ran, run.scenario, place.category)
    return told(verdict, check)


def told(verdict: Verdict, check: Check) -> Verdict:
    """Return the verdict with another check in the place of that name."""
    checks = tuple(check if c.name == check.name else c for c in verdict.checks)
    return replace(verdict, checks=checks)


def unaimed(place: Place, rule: Rule) -> dict[str, str]:
    """Return the waivers of the open division: its models need not be as accurate."""
    if place.division != "open":
        return {}
    reason = "open division: accuracy is reported, and held to no target"
    return {f"accuracy_{limit.metric}": reason for limit in rule.accuracy}


def facts(place: Place) -> dict[str, str]:
    """Return what the path told, as far as it did."""
    found = {
        "system": place.system,
        "submitter": place.submitter,
        "division": place.division,
        "category": place.category,
    }
    return {name: text for name, text in found.items() if text}


def expected_s(log: Log, ran: Scenario) -> float | None:
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


def untold(place: Place, round_name: str, check: Check) -> Verdict:
    """Return the verdict of a run that cannot be judged, and why.

    Its round and mode are empty where neither the user, path nor log tells them.
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
        facts=facts(place),
    )


def nameless(place: Place) -> Check:
    """Return why a run cannot be judged whose benchmark nobody tells."""
    found, required = "no benchmark in the path", "a benchmark's name above the run"
    if place.model:
        found, required = f"a model of the submitter's own: {place.model}", "official"
    remedy = "pass --benchmark NAME, as in --benchmark bert-99"
    path = str(place.path)
    return Check("benchmark", Status.ERROR, found, required, path, remedy)


def untested(place: Place, error: ValueError) -> Check:
    """Return why a compliance run cannot be judged whose test the round has not."""
    remedy = "leave the run out of the submission, or pass another --round"
    required = "a compliance test of the benchmark"
    return Check("rule", Status.ERROR, str(error), required, str(place.path), remedy)


def unknown(place: Place, name: str) -> Check:
    """Return why a round, or every round, has no rule for a run."""
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
