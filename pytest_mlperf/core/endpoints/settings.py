"""Was an endpoints run set up as its round wants it?

``checker`` is mlcommons/inference b66003e1, tools/submission/submission_checker.
"""

from __future__ import annotations

from pytest_mlperf.core import catalog
from pytest_mlperf.core.checks.outcome import Outcome
from pytest_mlperf.core.endpoints.documents import Document
from pytest_mlperf.core.endpoints.rules import MODELS
from pytest_mlperf.core.endpoints.run import HELD
from pytest_mlperf.core.endpoints.run import JudgedResult
from pytest_mlperf.core.endpoints.series import EQUAL
from pytest_mlperf.core.endpoints.series import Mismatch
from pytest_mlperf.core.rounds.names import resolve_benchmark
from pytest_mlperf.core.types import BOUNDED
from pytest_mlperf.core.types import Scenario

RUNTIME = ("settings", "runtime")
LOAD = ("settings", "load_pattern")
STORY = "repeat the run; a result that was changed proves nothing"


def check_model(judged: JudgedResult) -> Outcome:
    """The round takes endpoints results of the benchmark (endpoints_model_check)."""
    allowed = sorted(MODELS.get(judged.round.name, ()))
    remedy = "enter it with LoadGen's logs, or leave it out"
    found = judged.rule.benchmark
    required = f"one of {', '.join(allowed)}"
    return Outcome(found in allowed, found, required, judged.config.path.name, remedy)


def check_served_model(judged: JudgedResult) -> Outcome:
    """The model that was asked is the folder's benchmark, as far as its name tells.

    A server may call it anything; a name of another benchmark's is wrong.
    """
    keys = ("model_params", "name")
    name, where = judged.config.text(*keys), judged.config.where(*keys)
    benchmark = judged.rule.benchmark
    known = resolve_benchmark(name)
    mine = catalog.get(benchmark)
    same = known is None or known[0] in (benchmark, benchmark.removesuffix("-edge"))
    remedy = f"put the run of {benchmark} there, or rename the folder"
    return Outcome(same, name, mine.name, where, remedy)


def check_scenario(judged: JudgedResult) -> Outcome:
    """The load is the scenario's: checker, map_endpoints_scenario, and stricter.

    The checker believes a folder that is called SingleStream, whatever was in flight.
    """
    run, wanted = judged.run, judged.scenario
    kind, held = run.kind, run.concurrency
    found = kind if held is None else f"{kind}, {held} in flight"
    where = judged.config.where("type")
    remedy = f"repeat the run as {wanted.value}, or move it to its own scenario"
    if wanted is Scenario.OFFLINE:
        return Outcome(kind == "offline", found, "offline", where, remedy)
    if wanted in BOUNDED:
        return Outcome(kind == "online", found, "online", where, remedy)
    one = kind == "online" and held == 1
    stream = f"online with load_pattern {' or '.join(HELD)}, target_concurrency 1"
    return Outcome(one, found, stream, judged.config.where(*LOAD), remedy)


def check_seeds(judged: JudgedResult) -> Outcome:
    """Both seeds are the round's (seeds_check)."""
    seeds = judged.round.seeds
    wanted = {"dataloader": seeds.sample_index, "scheduler": seeds.schedule}
    for name, seed in wanted.items():
        keys = (*RUNTIME, f"{name}_random_seed")
        found = judged.config.integer(*keys)
        if found != seed:
            remedy = f"set settings.runtime.{name}_random_seed to {seed} and repeat"
            where = judged.config.where(*keys)
            return Outcome(False, f"{keys[-1]} {found}", str(seed), where, remedy)
    where = judged.config.where(*RUNTIME)
    return Outcome(True, f"{judged.round.name}'s", "the round's", where)


def check_min_duration(judged: JudgedResult) -> Outcome:
    """At least 600 s were asked for (min_duration_check), and were run."""
    required = judged.rule.min_duration_ms
    keys = (*RUNTIME, "min_duration_ms")
    asked = judged.config.integer(*keys)
    where, text = judged.config.where(*keys), f"{required / 1000:,.0f} s"
    if asked < required:
        found = f"min_duration_ms {asked:,}"
        remedy = f"set settings.runtime.min_duration_ms to {required} and repeat"
        return Outcome(False, found, f"at least {required:,}", where, remedy)
    ran = judged.result.number("duration_ns") / 1e9
    where = judged.result.where("duration_ns")
    remedy = "raise settings.runtime.n_samples_to_issue, or leave it out, and repeat"
    long_enough = ran * 1000 >= required
    return Outcome(long_enough, f"{ran:,.1f} s", f"at least {text}", where, remedy)


def check_settings_agree(judged: JudgedResult) -> Outcome:
    """The summary repeats seeds and load: they are the configuration's."""
    wrong = find_other_setting(judged.config, judged.result)
    where = judged.result.where("run_config")
    if wrong is None:
        return Outcome(True, "as configured", "as configured", where)
    return Outcome(False, wrong.found, wrong.required, wrong.where, STORY)


def find_other_setting(config: Document, summary: Document) -> Mismatch | None:
    """Return a setting of the summary that the configuration has otherwise."""
    pairs: dict[tuple[str, ...], tuple[str, ...]] = {
        ("run_config", f"{name}_random_seed"): (*RUNTIME, f"{name}_random_seed")
        for name in ("dataloader", "scheduler")
    }
    names = ["type", "target_qps", "target_concurrency"]
    legacy = "use_legacy_loadgen_qps_metrics"
    if config.find(*LOAD, legacy) is not None:
        names.append(legacy)
    pairs |= {("run_config", "load_pattern", name): (*LOAD, name) for name in names}
    if summary.find("run_config") is None:
        return None
    for own, theirs in pairs.items():
        found, wanted = summary.find(*own), config.find(*theirs)
        if found != wanted:
            spelled = f"{'.'.join(own[1:])} {found}"
            return Mismatch(
                spelled, f"{wanted}, from {config.path.name}", summary.where(*own)
            )
    return None


def check_in_flight(judged: JudgedResult) -> Outcome:
    """No more was in flight than was configured: all latencies fit into the time."""
    summary, held = judged.result, judged.run.concurrency
    where = summary.where("latency", "total")
    busy = summary.number("latency", "total")
    mean = busy / max(summary.number("duration_ns"), 1)
    found = f"{mean:,.3f} in flight on average"
    if held is None:
        return Outcome(True, found, "any number", where)
    fits = mean <= held * (1 + EQUAL)
    required = f"at most {held}, from target_concurrency"
    return Outcome(fits, found, required, where, STORY)
