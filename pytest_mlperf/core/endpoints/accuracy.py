"""Did an endpoints accuracy run answer everything, and well enough?

The checker (checks/accuracy_check.py) compares qwen3-vl's score alone; every score is
held to the round's target here. ``client`` is mlcommons/endpoints ea332753.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import TypeGuard

from pytest_mlperf.core.checks.outcome import Outcome
from pytest_mlperf.core.endpoints.documents import Document
from pytest_mlperf.core.endpoints.rules import FRACTIONS
from pytest_mlperf.core.endpoints.rules import FULL_SCORES
from pytest_mlperf.core.endpoints.run import JudgedResult
from pytest_mlperf.core.endpoints.series import EQUAL
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.rounds import AccuracyLimit

KEY = "accuracy_scores"
TOKENS = "TOKENS_PER_SAMPLE"
ROUGE = {
    "ROUGE1": "rouge1",
    "ROUGE2": "rouge2",
    "ROUGEL": "rougeL",
    "ROUGELSUM": "rougeLsum",
    "GEN_LEN": "gen_len",
}
"""Metric -> its name in the score of the scorer ``rouge``, which is an object."""


def read_scores(result: Document) -> list[dict[str, Any]]:
    """Return the scored datasets, without the one of a performance run.

    ``LogError`` where there is none.
    """
    found = result.find(KEY)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise result.wrong("a list of scored datasets", KEY)
    scores = [one for one in found if one.get("dataset_type", "accuracy") == "accuracy"]
    if not scores:
        raise result.wrong("at least one scored dataset", KEY)
    return scores


def count(result: Document, one: Mapping[str, Any], key: str) -> int:
    """Return a count of a scored dataset; ``LogError`` for anything else."""
    value = one.get(key)
    if type(value) is not int or value < 0:
        found = f"{one.get('dataset_name')}: {key} = {value}"
        raise LogError(result.path, 0, found, f"{key}: a whole number, 0 or more")
    return value


def check_whole_dataset(judged: JudgedResult) -> Outcome:
    """Every sample of every dataset was answered and scored, none failed."""
    result = judged.result
    faults = [
        fault for one in read_scores(result) for fault in find_faults(result, one)
    ]
    names = ", ".join(str(one.get("dataset_name")) for one in read_scores(result))
    remedy = "look at the client's report.txt, and repeat the accuracy run"
    found = f"{names}: {'; '.join(faults)}" if faults else names
    return Outcome(
        not faults, found, "each sample answered and scored", result.where(KEY), remedy
    )


def find_faults(result: Document, one: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with one dataset's counts."""
    name, total = one.get("dataset_name"), count(result, one, "total_samples")
    if one.get("complete") is not True:
        yield f"{name} is not complete"
    repeats = count(result, one, "num_repeats")
    unit = count(result, one, "unit_samples")
    if unit * repeats != total:
        yield f"{name} has {unit:,} x {repeats:,} samples, and {total:,} in all"
    counts = one.get("response_counts")
    if counts is None:
        return
    if not isinstance(counts, dict):
        yield f"{name} has no counts of its answers"
        return
    for kind in ("empty", "missing"):
        if number := count(result, counts, kind):
            yield f"{number:,} answers of {name} {kind}"
    issued, scored = (count(result, counts, key) for key in ("issued", "scored"))
    if issued != total or scored + counts["empty"] + counts["missing"] != issued:
        yield f"{name}: {scored:,} of {issued:,} scored, of {total:,} in all"


def check_configured(judged: JudgedResult) -> Outcome:
    """The scored datasets are the configured ones, as often repeated."""
    config, result = judged.config, judged.result
    wanted = {
        one.get("name"): one.get("accuracy_config", {}).get("num_repeats", 1)
        for one in read_datasets(config)
    }
    found = {
        one.get("dataset_name"): count(result, one, "num_repeats")
        for one in read_scores(result)
    }
    shown = ", ".join(f"{name} x {n}" for name, n in found.items())
    required = ", ".join(f"{name} x {n}" for name, n in wanted.items())
    remedy = "put the configuration and the scores of one run there"
    where = result.where(KEY)
    return Outcome(found == wanted, shown, required or "none", where, remedy)


def read_datasets(config: Document) -> list[dict[str, Any]]:
    """Return the configured datasets that are scored."""
    found = config.find("datasets")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise config.wrong("a list of datasets", "datasets")
    datasets = [one for one in found if one.get("type") == "accuracy"]
    if not all(isinstance(one.get("accuracy_config", {}), dict) for one in datasets):
        raise config.wrong("an accuracy_config in each", "datasets")
    return datasets


def check_dataset_size(judged: JudgedResult) -> Outcome:
    """All datasets together have the round's number of samples (dataset_check)."""
    result, required = judged.result, judged.rule.accuracy_sample_count
    found = sum(count(result, one, "total_samples") for one in read_scores(result))
    remedy = "score the official datasets, with the official number of repeats"
    where = result.where(KEY)
    return Outcome(
        found == required, f"{found:,} samples", f"{required:,}", where, remedy
    )


def check_average(judged: JudgedResult) -> Outcome:
    """The average that stands there is that of the scores."""
    result, key = judged.result, "average_accuracy"
    scores = [one.get("score") for one in read_scores(result)]
    numbers = [float(score) for score in scores if is_number(score)]
    where = result.where(key)
    if not numbers:
        return Outcome(True, "none", "none: the scores are no numbers", where)
    mean, found = sum(numbers) / len(numbers), result.number(key)
    same = abs(found - mean) <= EQUAL * abs(mean)
    remedy = "repeat the run; a result that was changed proves nothing"
    return Outcome(same, f"{found:,.8g}", f"{mean:,.8g}, the scores'", where, remedy)


def is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_target(judged: JudgedResult, limit: AccuracyLimit) -> Outcome:
    """A metric reaches the round's target, and stays below its upper limit."""
    value = measure(judged, limit.metric)
    where, result = judged.result.where(KEY), judged.result
    if value is None:
        # Only an upper limit: as with LoadGen, a result need not print it.
        if not limit.threshold:
            return Outcome(True, "not measured", "not needed", where)
        found = f"no {limit.metric}"
        required = f"{limit.metric}: at least {limit.threshold:,.6g}"
        raise LogError(result.path, 0, found, required, "score it, and repeat the run")
    required = f"at least {limit.threshold:,.6g}"
    ok = value >= limit.threshold
    if limit.upper is not None:
        required += f", at most {limit.upper:,.6g}"
        ok &= value <= limit.upper
    full = 1.0 if limit.metric in FRACTIONS else 100.0
    if limit.metric not in (TOKENS, "GEN_LEN") and not 0 <= value <= full:
        required, ok = f"0 to {full:g}", False
    remedy = "use a better model or a milder quantization, and repeat both runs"
    return Outcome(ok, f"{value:,.6g}", required, where, remedy)


def measure(judged: JudgedResult, metric: str) -> float | None:
    """Return a metric over all datasets, in the round's unit; None without one.

    Several datasets count by their samples without repeats, as the reference scores
    them (mlcommons/inference, language/gpt-oss-120b/eval_mlperf_accuracy.py).
    """
    result = judged.result
    values, weights = [], []
    for one in read_scores(result):
        value = measure_dataset(judged, one, metric)
        if value is None:
            return None
        values.append(value)
        key = "total_samples" if metric == TOKENS else "unit_samples"
        weights.append(count(result, one, key))
    if not sum(weights):
        raise result.wrong("datasets with samples", KEY)
    pairs = zip(values, weights, strict=True)
    return sum(value * weight for value, weight in pairs) / sum(weights)


def measure_dataset(
    judged: JudgedResult, one: Mapping[str, Any], metric: str
) -> float | None:
    """Return a metric of one dataset; None where it was not measured."""
    result, name = judged.result, one.get("dataset_name")
    if metric == TOKENS:
        return measure_length(result, one)
    score = one.get("score")
    if metric in ROUGE:
        value = score.get(ROUGE[metric]) if isinstance(score, dict) else None
        return to_number(result, name, value)
    if isinstance(score, dict):
        # The checker's spellings, in its order (_numeric_accuracy_score).
        last = metric.rpartition("_")[2].lower()
        spellings = (metric, metric.lower(), last, "f1", "score", "accuracy")
        score = next((score[key] for key in spellings if key in score), None)
    value = to_number(result, name, score)
    full = 1.0 if metric in FRACTIONS else 100.0
    return None if value is None else value * full / find_full_score(judged, name)


def measure_length(result: Document, one: Mapping[str, Any]) -> float | None:
    """Return the mean length of a dataset's answers; None where it was not measured."""
    lengths = one.get("output_sequence_lengths")
    if not isinstance(lengths, dict):
        return None
    total, mean = lengths.get("total"), lengths.get("avg")
    counts = lengths.get("histogram", {}).get("counts", ())
    if not (is_number(total) and is_number(mean) and sum(counts)):
        raise result.wrong("total, avg and histogram of each dataset's lengths", KEY)
    if abs(mean - total / sum(counts)) > EQUAL * abs(mean):
        found = f"{one.get('dataset_name')}: answers of {mean:,.8g} tokens on average"
        required = f"{total / sum(counts):,.8g}, total by the count"
        raise LogError(result.path, 0, found, required)
    return float(mean)


def to_number(result: Document, name: object, value: object) -> float | None:
    """Return a score, which may be written as text; None for none."""
    if value is None:
        return None
    if is_number(value):
        return float(value)
    try:
        return float(str(value))
    except ValueError:
        found = f"{name}: score {str(value)[:40]!r}"
        raise LogError(result.path, 0, found, "a number") from None


def find_full_score(judged: JudgedResult, name: object) -> float:
    """Return what the dataset's scorer gives to a run without a fault."""
    config = judged.config
    for one in read_datasets(config):
        if one.get("name") != name:
            continue
        own = one.get("accuracy_config", {})
        scale = own.get("scale")
        if is_number(scale) and scale > 0:
            return float(scale)
        if own.get("eval_method") in FULL_SCORES:
            return FULL_SCORES[own["eval_method"]]
        found = f"{name}: eval_method {own.get('eval_method')!r}"
        required = f"one of {', '.join(sorted(FULL_SCORES))}"
        raise LogError(config.path, 0, found, required, "score it as the round does")
    required = "the configuration of the dataset"
    raise LogError(config.path, 0, f"no dataset {name!r}", required)
