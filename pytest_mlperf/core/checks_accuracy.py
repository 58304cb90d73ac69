"""Did an accuracy run answer everything, and well enough?

``submission checker`` is mlcommons/inference b66003e1,
tools/submission/submission_checker/checks/accuracy_check.py.
"""

from __future__ import annotations

from pytest_mlperf.core.accuracy_log import ACCURACY
from pytest_mlperf.core.accuracy_log import ACCURACY_TXT
from pytest_mlperf.core.accuracy_log import Accuracy
from pytest_mlperf.core.accuracy_log import digest
from pytest_mlperf.core.accuracy_log import read_accuracy
from pytest_mlperf.core.accuracy_log import read_accuracy_txt
from pytest_mlperf.core.evidence import Run
from pytest_mlperf.core.evidence import check
from pytest_mlperf.core.rounds import AccuracyLimit
from pytest_mlperf.core.verdict import Check


def total(run: Run) -> int:
    """Return how many samples the workload has."""
    if run.context.dataset_total is not None:
        return run.context.dataset_total
    key = "qsl_reported_total_count"
    if "effective_accuracy_sample_count" in run.log.values:
        return min(
            run.log.integer(key), run.log.integer("effective_accuracy_sample_count")
        )
    return run.log.integer(key)


def whole_dataset(run: Run) -> Check:
    """Every sample was answered, and no other (LoadGen, AccuracyOnly)."""
    expected = total(run)
    answers = read_accuracy(run.log.folder)
    missing = expected - sum(0 <= index < expected for index in answers)
    strange = [index for index in answers if not 0 <= index < expected]
    empty = sum(not answer for answer in answers.values())
    found = f"{len(answers):,} samples answered"
    if strange:
        found += f", one of them number {strange[0]}"
    if empty:
        found += f", {empty:,} with nothing"
    ok = expected > 0 and not missing and not strange and not empty
    required = f"all {expected:,}, each with an answer"
    remedy = "repeat the accuracy run over the whole dataset"
    return check("whole_dataset", ok, found, required, ACCURACY, remedy)


def dataset_size(run: Run, required: int) -> Check:
    """The dataset has the round's size exactly (submission checker)."""
    found = total(run)
    return check(
        "dataset_size",
        found == required,
        f"{found:,} samples",
        f"{required:,}",
        run.log.where("qsl_reported_total_count"),
        "use the round's official dataset",
    )


def limits(run: Run) -> tuple[AccuracyLimit, ...]:
    """Return the round's limits, of the workload's own reference where it has one.

    A metric without such a reference keeps the round's: it is not dropped.
    """
    reference = run.context.reference or {}
    return tuple(
        limit.against(reference.get(limit.metric, limit.reference))
        for limit in run.rule.accuracy
    )


def accuracy(limit: AccuracyLimit, measured: Accuracy) -> Check:
    """One metric reaches its share of the reference (submission checker, accuracy)."""
    name = f"accuracy_{limit.metric}"
    where = measured.where(limit.metric)
    required = f"at least {limit.threshold:.4f}"
    required += f" ({limit.ratio:.1%} of {limit.reference:g})"
    if limit.upper is not None:
        required += f", at most {limit.upper:.4f}"
    value = measured.metrics.get(limit.metric)
    if value is None:
        found = f"no {limit.metric} in {ACCURACY_TXT}"
        remedy = "write accuracy.txt in the form that the official pattern reads"
        return check(name, limit.reference == 0, found, required, where, remedy)
    high = limit.upper is not None and value > limit.upper
    remedy = f"{limit.threshold - value:.4f} short: use a higher precision, calibrate"
    remedy += " on more data, or look for a wrong pre- or post-processing"
    if high:
        remedy = "above what the reference can give: look at the scoring"
    ok = value >= limit.threshold and not high
    return check(name, ok, f"{value:g}", required, where, remedy)


def accuracy_hash(run: Run) -> Check:
    """accuracy.txt was computed from this very log (submission checker, hash)."""
    required = digest(run.log.folder)
    found = read_accuracy_txt(run.log.folder).hash or "no hash= line"
    remedy = "score this accuracy log again, and append its sha256 as hash="
    return check(
        "accuracy_hash", found == required, found, required, ACCURACY_TXT, remedy
    )
