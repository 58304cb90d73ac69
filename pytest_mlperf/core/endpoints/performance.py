"""Is an endpoints performance run complete, consistent and within its bounds?

``checker`` is mlcommons/inference b66003e1, tools/submission/submission_checker,
checks/performance_check.py and compliance_check.py.
"""

from __future__ import annotations

from pytest_mlperf.core import catalog
from pytest_mlperf.core import early_stopping
from pytest_mlperf.core.checks.context import format_ms
from pytest_mlperf.core.checks.outcome import Outcome
from pytest_mlperf.core.endpoints.rules import choose_metric
from pytest_mlperf.core.endpoints.run import JudgedResult
from pytest_mlperf.core.endpoints.series import count_values
from pytest_mlperf.core.endpoints.series import find_mismatches
from pytest_mlperf.core.endpoints.settings import STORY

ESTIMATE = ("early_stopping_percentiles", "99.0")


def check_no_errors(judged: JudgedResult) -> Outcome:
    """The run ended by itself, and no request failed.

    The checker takes ``n_samples_failed`` for LoadGen's errors, and passes them.
    """
    summary = judged.result
    failed = summary.integer("n_samples_failed")
    state = summary.text("state")
    ended = state == "complete" and summary.find("complete") is True
    where = summary.where("n_samples_failed" if failed else "state")
    found = f"{failed:,} failed, {state}"
    if state == "complete" and not ended:
        found += " but with metrics missing (complete is not true)"
    remedy = "look at the client's report.txt and events.jsonl, and repeat the run"
    ok = ended and not failed
    return Outcome(ok, found, "0 failed, complete", where, remedy)


def check_all_completed(judged: JudgedResult) -> Outcome:
    """Every request that was issued was answered."""
    summary = judged.result
    issued = summary.integer("n_samples_issued")
    completed = summary.integer("n_samples_completed")
    where = summary.where("n_samples_completed")
    found = f"{completed:,} of {issued:,} completed"
    remedy = "raise settings.drain.performance_timeout_s, and repeat the run"
    return Outcome(0 < issued == completed, found, "all of them", where, remedy)


def check_sample_count(judged: JudgedResult) -> Outcome:
    """An Offline run answers as many samples as the round asks of LoadGen.

    The checker does not ask it of endpoints results: it is never more than a note.
    """
    issued = judged.result.integer("n_samples_issued")
    needed = judged.rule.min_sample_count
    where = judged.result.where("n_samples_issued")
    why = (
        f"the checker of {judged.round.name} asks it of LoadGen's runs alone "
        "(min_query_count_check)"
    )
    return Outcome(issued >= needed, f"{issued:,}", f"at least {needed:,}", where, why)


def check_latency_bound(judged: JudgedResult) -> Outcome:
    """The 99th percentiles are within the bounds, by early stopping's estimates.

    Tokens' strictly (llm_check), a whole answer's not (latency_check).
    """
    rule = judged.rule
    bounds = {"ttft": rule.ttft_ns, "tpot": rule.tpot_ns}
    if rule.ttft_ns is None and rule.tpot_ns is None:
        bounds = {"latency": rule.target_latency_ns}
    found, required, ok = [], [], True
    for name, bound in bounds.items():
        if bound is None:
            continue
        sign = "at most" if name == "latency" else "below"
        required.append(f"{name} {sign} {format_ms(bound)}")
        value = read_estimate(judged, name)
        if isinstance(value, str):
            where = judged.result.where(name, *ESTIMATE)
            remedy = "issue more requests (settings.runtime.n_samples_to_issue)"
            return Outcome(False, f"{name}: {value}", required[-1], where, remedy)
        found.append(f"{name} {format_ms(value)}")
        ok &= value <= bound if name == "latency" else value < bound
    where = judged.result.where(next(iter(bounds)), *ESTIMATE)
    if not required:
        return Outcome(True, "no bound", "no bound", where)
    remedy = "lower settings.load_pattern's target, and repeat the run"
    return Outcome(ok, ", ".join(found), ", ".join(required), where, remedy)


def read_estimate(judged: JudgedResult, name: str) -> float | str:
    """Return early stopping's estimate of the 99th percentile, or why there is none."""
    summary = judged.result
    if not summary.find(name):
        return "not measured: stream the answers, and name a tokenizer"
    if summary.find(name, ESTIMATE[0]) is None:
        return "no estimate: settings.early_stopping is off"
    if summary.find(name, *ESTIMATE) is None:
        count, needed = (
            count_values(summary, name),
            early_stopping.count_queries_needed(1, 0.99),
        )
        return f"no estimate of {count:,} values, it takes {needed:,}"
    return summary.number(name, *ESTIMATE)


def check_metric(judged: JudgedResult) -> Outcome:
    """The reported figure is there, and above zero."""
    keys, unit = choose_metric(judged.rule, judged.scenario)
    value, where = judged.result.number(*keys), judged.result.where(*keys)
    remedy = "repeat the run; for tokens, stream the answers and name a tokenizer"
    return Outcome(value > 0, f"{value:,.8g} {unit}", "above 0", where, remedy)


def check_story(judged: JudgedResult) -> Outcome:
    """Counts, times, percentiles and rates tell one story; no checker looks."""
    wrong = next(find_mismatches(judged.result), None)
    if wrong is None:
        name = judged.result.path.name
        return Outcome(True, "figures that agree", "figures that agree", name)
    return Outcome(False, wrong.found, wrong.required, wrong.where, STORY)


def check_output_length(judged: JudgedResult) -> Outcome:
    """TEST09: answers are as long as the reference's (compliance_endpoints_check).

    By total and count: the checker believes the average that is written there.
    """
    limits = catalog.get(judged.rule.benchmark).length_audit
    keys = ("output_sequence_lengths", "total")
    where = judged.result.where(*keys)
    if limits is None:
        return Outcome(True, "no bounds", "no bounds", where)
    count = count_values(judged.result, keys[0])
    mean = judged.result.number(*keys) / max(count, 1)
    required = f"{limits.shortest:g} to {limits.longest:g}"
    remedy = "generate with the reference's parameters; answers must not be cut"
    ok = limits.shortest <= mean <= limits.longest
    return Outcome(ok, f"{mean:,.2f} tokens on average", required, where, remedy)
