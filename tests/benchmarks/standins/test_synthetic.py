"""Synthetic data: official sizes, answers of their own, lines that checkers read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.api.workload import ShowsAnswers
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.benchmarks.bert import BERT
from pytest_mlperf.benchmarks.resnet50 import RESNET50
from pytest_mlperf.benchmarks.standins import synthetic_squad
from pytest_mlperf.benchmarks.standins.synthetic import REHEARSAL
from pytest_mlperf.benchmarks.standins.synthetic import SyntheticBenchmark
from pytest_mlperf.benchmarks.standins.synthetic import scatter
from pytest_mlperf.core import catalog
from pytest_mlperf.core import matrix
from pytest_mlperf.core import rounds
from pytest_mlperf.core.catalog.metrics import METRICS
from pytest_mlperf.core.compliance.test08 import compare_entropies
from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.accuracy import read_accuracy_txt
from pytest_mlperf.core.plan import plan_settings
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario


def rules() -> Iterator[Rule]:
    """Yield one rule of every benchmark, target and round that can be rehearsed."""
    seen = set()
    for name in rounds.ROUNDS:
        present = matrix.find_rehearsable(rounds.get(name).rules)
        for rule in rounds.get(name).rules:
            key = (rule.benchmark, rule.target, rule.round)
            if rule.benchmark in present and key not in seen:
                seen.add(key)
                yield rule


RULES = list(rules())
OPENED: dict[str, TensorWorkload] = {
    benchmark.name: benchmark.open_workload("synthetic", None)
    for benchmark in (BERT, RESNET50)
}


def workload(rule: Rule, mode: Mode = Mode.ACCURACY) -> TensorWorkload:
    """Return a rehearsal's workload; those that take a second are opened once."""
    if rule.benchmark in OPENED:
        return OPENED[rule.benchmark]
    return REHEARSAL.rehearse(rule, mode).open_workload("synthetic", None)


def answers_of(found: TensorWorkload, indices: list[int]) -> dict[int, bytes]:
    """Return what the oracle's outputs become in LoadGen's log."""
    outputs = list(found.dataset.gather(indices).values())
    rows, sizes, _ = found.respond(outputs, indices)
    cut = sizes or [rows[0].nbytes] * len(rows)
    return {
        index: row.tobytes()[:size]
        for index, row, size in zip(indices, rows, cut, strict=True)
    }


def named(rule: Rule) -> str:
    return f"{rule.model}-{rule.round}"


@pytest.mark.parametrize("rule", RULES, ids=named)
def test_sizes_are_the_rounds(rule: Rule) -> None:
    """No rule about the dataset has to be waived in a rehearsal."""
    performance = workload(rule, Mode.PERFORMANCE).dataset

    available = min(performance.total, performance.performance_count)
    planned = plan_settings(
        rule, rounds.get(rule.round).seeds, Mode.PERFORMANCE, available=available
    )

    assert planned.waived == {}
    assert workload(rule).dataset.total == rule.accuracy_sample_count
    assert performance.total == rule.dataset_size


@pytest.mark.parametrize("rule", RULES, ids=named)
def test_all_true_answers_pass_the_rounds_limits(
    rule: Rule, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The written line is read back by the official patterns, every metric of it."""
    found = workload(rule)
    whole = found.dataset.total
    if rule.benchmark not in OPENED:
        # The share of true answers is what counts; all of them are not needed.
        metrics = {k: v * whole / 8 for k, v in found.score(some(found)).items()}
    else:
        metrics = score_all(rule.benchmark)
    folder = tmp_path_factory.mktemp("accuracy")
    (folder / "accuracy.txt").write_text(found.accuracy_text(metrics) + "\n")
    read = read_accuracy_txt(folder).metrics

    for limit in rule.accuracy:
        most = limit.upper or max(100, limit.reference)
        assert limit.threshold <= read[limit.metric] <= most


@lru_cache
def score_all(benchmark: str) -> dict[str, float]:
    """Return what all true answers score: data that every round has, scored once."""
    found = OPENED[benchmark]
    return found.score(answers_of(found, list(range(found.dataset.total))))


def some(found: TensorWorkload) -> dict[int, bytes]:
    total = found.dataset.total
    return answers_of(found, [i * total // 8 for i in range(8)])


def test_the_films_that_a_round_wants_shown_are_words() -> None:
    """A rehearsal of wan ended with a tree that both checkers refuse for want of them.

    The checkers look at the names.
    """
    rule = rounds.get("v6.1").find("wan-2.2-t2v-a14b", "", Scenario.OFFLINE)
    assert rule is not None
    found = workload(rule)
    assert isinstance(found, ShowsAnswers)
    examples = catalog.get(rule.benchmark).examples
    assert examples is not None
    wanted = list(map(int, examples.samples["v6.1"].split()))
    shown = found.show(answers_of(found, wanted), [*wanted, 10**6])

    assert set(shown) == {f"{sample}.mp4" for sample in wanted} | {"captions.txt"}
    assert all(content.startswith(b"REHEARSAL") for content in shown.values())


@pytest.mark.parametrize("rule", RULES, ids=named)
def test_a_wrong_answer_costs_its_share(rule: Rule) -> None:
    """Scoring looks at the answers: one of eight that is spoilt is found."""
    found = workload(rule)
    right = some(found)
    spoilt = bytes(byte ^ 0x55 for byte in right[0])
    # Logits that are all alike point nowhere; spoilt ones might point where they did.
    wrong = {**right, 0: bytes(len(spoilt)) if rule.benchmark == "bert" else spoilt}
    metric = rule.accuracy[0].metric
    share = found.score(wrong)[metric] / found.score(right)[metric]

    assert share == pytest.approx(7 / 8)


@pytest.mark.parametrize("rule", RULES, ids=named)
def test_no_line_is_read_as_another_metric(rule: Rule) -> None:
    """The first line of each metric matches the patterns of that metric alone."""
    found = workload(rule)
    metrics = dict.fromkeys([m.metric for m in rule.accuracy], 1.0)
    text = found.accuracy_text({"exact_match": 1.0, **metrics})
    # WER and ACCURACY are one pattern; another benchmark's F1 is read from any JSON.
    same = {"WER": "ACCURACY", "F1": "F1_HIERARCHICAL"}

    assert text
    assert all(metric in METRICS for metric in metrics)
    assert set(metrics) | {same.get(m, m) for m in metrics} >= read_by(text)


def read_by(text: str) -> set[str]:
    """Return the metrics whose official pattern finds something."""
    import re

    lines = text.splitlines()
    return {
        name
        for name, metric in METRICS.items()
        if any(re.match(metric.pattern, line) for line in lines)
    }


@pytest.mark.parametrize("rule", RULES, ids=named)
def test_samples_differ_in_what_compliance_compares(rule: Rule) -> None:
    """An engine that answers every sample alike would be found out."""
    found = answers_of(workload(rule), list(range(min(43, rule.dataset_size))))

    assert len(set(found.values())) > 0.9 * len(found)


@given(st.lists(st.integers(0, 10_832), min_size=1, max_size=20, unique=True))
@settings(max_examples=30)
def test_an_answer_is_the_same_in_every_batch(indices: list[int]) -> None:
    """TEST01 compares two runs that batch differently."""
    for found in (*OPENED.values(), generic("dlrm-v3")):
        together = answers_of(found, indices)
        alone = answers_of(found, [indices[-1]])

        assert alone[indices[-1]] == together[indices[-1]]


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if "TEST08" in rule.compliance], ids=named
)
def test_a_recommenders_answers_can_be_audited(rule: Rule, tmp_path: Path) -> None:
    """An accuracy run logs labels and weights, which TEST08 needs; the audited run
    logs predictions alone, in another order.
    """
    for mode, indices in ((Mode.ACCURACY, range(50)), (Mode.COMPLIANCE, (7, 49, 0))):
        answers = answers_of(workload(rule, mode), [*indices])
        entries = [
            f'{{ "seq_id" : 0, "qsl_idx" : {index}, "data" : "{answer.hex()}" }}'
            for index, answer in answers.items()
        ]
        folder = tmp_path / mode.value
        folder.mkdir()
        (folder / ACCURACY).write_text("[\n" + ",\n".join(entries) + "\n]\n")
    entropy = compare_entropies(tmp_path / "accuracy", tmp_path / "compliance")

    assert (entropy.matched, entropy.unmatched, entropy.passed) == (3, 0, True)


def generic(name: str) -> TensorWorkload:
    rule = next(rule for rule in RULES if rule.benchmark == name)
    return SyntheticBenchmark(rule, Mode.PERFORMANCE).open_workload("synthetic", None)


def test_first_places_are_all_different() -> None:
    """Half a million samples have half a million first values."""
    count = 500_000
    first = scatter(np.arange(count), 1)[:, 0]

    assert len(np.unique(first)) == count


def test_the_digest_is_the_same_in_both_modes() -> None:
    """Accuracy and performance belong to one build."""
    rule = next(r for r in RULES if r.accuracy_sample_count == r.dataset_size)
    digests = {
        SyntheticBenchmark(rule, mode).open_workload("synthetic", None).digest
        for mode in (Mode.PERFORMANCE, Mode.ACCURACY)
    }

    assert len(digests) == 1


def test_other_outputs_than_the_oracles_are_refused() -> None:
    """A model's scores are no answer to a synthetic question."""
    found = generic("3d-unet")

    with pytest.raises(ValueError, match=r"should be \(2, 16, 16, 16\).*oracle"):
        found.respond([np.zeros((2, 1000))], [0, 1])


def test_bert_has_as_many_windows_as_squad() -> None:
    """10,833 of 10,570 questions, some of the full length, none beyond it."""
    made, answers = synthetic_squad.make_features()
    shown = np.bincount(made.owners[answers[:, 0] > 0])

    assert len(made.lengths) == synthetic_squad.WINDOWS
    assert len(made.questions) == synthetic_squad.QUESTIONS
    assert made.lengths.max() == 384
    assert shown.min() == 1


def test_bert_scores_text_and_not_bytes() -> None:
    """A longer answer than the true one has some F1 and no exact match."""
    found = OPENED["bert"]
    answer = bytearray(answers_of(found, [0])[0])
    logits = np.frombuffer(bytes(answer), "<f4").reshape(-1, 2).copy()
    end = int(logits[:, 1].argmax())
    logits[end + 1, 1] = logits[end, 1] + 1
    metrics = found.score({0: logits.tobytes()})
    full = found.score({0: bytes(answer)})

    assert 0 < metrics["F1"] < full["F1"]
    assert 0 == metrics["exact_match"] < full["exact_match"]


def test_the_data_are_the_same_on_every_machine() -> None:
    """Answers are made of seeds; another numpy must not make others unnoticed."""
    found = {
        name: hashlib.sha256(b"".join(some(w).values())).hexdigest()[:16]
        for name, w in {**OPENED, "dlrm-v3": generic("dlrm-v3")}.items()
    }

    assert found == EXPECTED


EXPECTED = {
    "bert": "45f07cebce3195fa",
    "dlrm-v3": "cc24abee53fa8040",
    "resnet50": "658f2f71a4f35266",
}
