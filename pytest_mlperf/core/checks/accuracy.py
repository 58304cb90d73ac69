"""Did an accuracy run answer everything, and well enough?

``submission checker`` is mlcommons/inference b66003e1,
tools/submission/submission_checker/checks/accuracy_check.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from operator import mul

from pytest_mlperf.core import catalog
from pytest_mlperf.core.catalog.metrics import METRICS
from pytest_mlperf.core.catalog.metrics import find_pattern
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.outcome import Outcome
from pytest_mlperf.core.checks.rule_check import ACCURACY as ACCURACY_MODE
from pytest_mlperf.core.checks.rule_check import NamedJudges
from pytest_mlperf.core.checks.rule_check import check
from pytest_mlperf.core.checks.rule_check import check_each
from pytest_mlperf.core.checks.rule_check import check_limit
from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.accuracy import ACCURACY_TXT
from pytest_mlperf.core.logs.accuracy import Survey
from pytest_mlperf.core.logs.accuracy import digest_log
from pytest_mlperf.core.logs.accuracy import read_accuracy_txt
from pytest_mlperf.core.logs.accuracy import survey_answers
from pytest_mlperf.core.rounds import AccuracyLimit


def count_samples(run: JudgedRun) -> int:
    """Return how many samples the workload has."""
    if run.context.dataset_total is not None:
        return run.context.dataset_total
    key = "qsl_reported_total_count"
    if "effective_accuracy_sample_count" in run.log.values:
        return min(
            run.log.integer(key), run.log.integer("effective_accuracy_sample_count")
        )
    return run.log.integer(key)


@check("whole_dataset", modes=ACCURACY_MODE)
def whole_dataset(run: JudgedRun) -> Outcome:
    """Every sample was answered, and no other (LoadGen, AccuracyOnly).

    A log that was cut for publication has to be in order as far as it goes, and the
    detail log shows that all samples were asked for.
    """
    expected, shown = count_samples(run), survey_answers(run.log.folder)
    faults = list(find_faults(run, shown, expected))
    found = f"{shown.samples:,} samples answered"
    if shown.cut:
        found = f"{shown.samples:,} answers left of a log that was cut"
    required = f"all {expected:,}, each with an answer"
    remedy = "repeat the accuracy run over the whole dataset"
    return Outcome(not faults, ", ".join([found, *faults]), required, ACCURACY, remedy)


def find_faults(run: JudgedRun, shown: Survey, expected: int) -> Iterator[str]:
    """Yield the faults of an accuracy log that does not cover the dataset."""
    if not expected > 0:
        yield "of a dataset that has none"
    if shown.highest >= expected:
        yield f"one of them number {shown.highest:,}"
    if shown.empty and not catalog.get(run.rule.benchmark).finds_objects:
        yield f"{shown.empty:,} with nothing"
    spare = shown.entries - shown.samples
    allowed = 0
    if run.log.get("effective_scenario") == "MultiStream":
        # The last query of a set is filled up with samples that were asked before.
        allowed = (run.log.integer("effective_samples_per_query") - 1) * len(
            run.log.loaded
        )
    if spare > allowed:
        yield f"{spare:,} of them twice"
    if not shown.cut and shown.samples != expected:
        yield f"{expected - shown.samples:,} missing"
    asked = count_generated_samples(run)
    if asked < expected:
        yield f"only {asked:,} asked for"


def count_generated_samples(run: JudgedRun) -> int:
    """Return the number of samples that accuracy mode asked for, over all sets.

    The two counts of a set stand in lines that may come in any order.
    """
    queries = run.log.series.get("generated_query_count", ())
    each = run.log.series.get("generated_samples_per_query", ())
    asked: list[int] = list(map(mul, sorted(queries), sorted(each)))
    # Performance mode asks for more than a set, to fill its duration.
    return sum(asked) - (max(asked, default=0) if run.log.both_modes else 0)


@check_limit(
    "dataset_size",
    required=lambda run: run.rule.accuracy_sample_count,
    planned=lambda known: known.dataset_total,
    modes=ACCURACY_MODE,
)
def dataset_size(run: JudgedRun, required: int) -> Outcome:
    """The dataset has the round's size exactly (submission checker).

    So has accuracy_sample_count_override, which may not ask for more either.
    """
    found, key = count_samples(run), "qsl_reported_total_count"
    asked = "effective_accuracy_sample_count"
    if run.context.dataset_total is None and run.log.get(asked, 0) > found:
        found, key = run.log.integer(asked), asked
    return Outcome(
        found == required,
        f"{found:,} samples",
        f"{required:,}",
        run.log.where(key),
        "use the round's official dataset",
    )


def find_limits(run: JudgedRun) -> tuple[AccuracyLimit, ...]:
    """Return the round's limits, with the workload's own reference where it has one.

    A metric without such a reference keeps the round's: it is not dropped.
    """
    reference = run.context.reference or {}
    return tuple(
        limit.against(reference.get(limit.metric, limit.reference))
        for limit in run.rule.accuracy
    )


RESCORE = "score this accuracy log again, and append its sha256 as hash="


@check_each("accuracy", modes=ACCURACY_MODE)
def accuracy_targets(run: JudgedRun) -> NamedJudges:
    """Yield a check for each metric; a waiver turns it into a report."""
    for limit in find_limits(run):
        yield f"accuracy_{limit.metric}", partial(check_metric, limit)


def check_metric(limit: AccuracyLimit, run: JudgedRun) -> Outcome:
    """One metric reaches its share of the reference (submission checker, accuracy)."""
    measured = read_accuracy_txt(run.log.folder, own=[limit.metric])
    where = measured.where(limit.metric)
    required = f"at least {limit.threshold:.4f}"
    required += f" ({limit.ratio:.1%} of {limit.reference:g})"
    if limit.upper is not None:
        required += f", at most {limit.upper:.4f}"
    value = measured.metrics.get(limit.metric)
    if value is None:
        found = f"no {limit.metric} in {ACCURACY_TXT}"
        pattern = find_pattern(limit.metric)
        remedy = f"write a line of {ACCURACY_TXT} that this pattern finds: {pattern}"
        return Outcome(limit.reference == 0, found, required, where, remedy)
    most = METRICS[limit.metric].ceiling if limit.metric in METRICS else math.inf
    most = most if limit.upper is None else min(most, limit.upper)
    remedy = f"{limit.threshold - value:.4f} short: use a higher precision, calibrate"
    remedy += " on more data, or look for a wrong pre- or post-processing"
    if value > most:
        remedy = "above what the reference can give: look at the scoring"
    ok = limit.threshold <= value <= most
    return Outcome(ok, f"{value:g}", required, where, remedy)


@check("accuracy_hash", modes=ACCURACY_MODE)
def accuracy_hash(run: JudgedRun) -> Outcome:
    """accuracy.txt was computed from this very log (submission checker, hash).

    The hash of a log that was cut for publication is that of the whole log; it only has
    to be there.
    """
    folder, remedy = run.log.folder, RESCORE
    stated, cut = read_accuracy_txt(folder).hashes, survey_answers(folder).cut
    if not stated:
        required = "hash= and 64 digits, not all of them 0"
        return Outcome(False, "no such line", required, ACCURACY_TXT, remedy)
    if cut:
        return Outcome(True, stated[0], "the whole log's sha256", ACCURACY_TXT)
    required = digest_log(folder)
    return Outcome(required in stated, stated[0], required, ACCURACY_TXT, remedy)
