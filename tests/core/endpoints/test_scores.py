"""Scores of each scorer, in the unit of the round's target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.core.endpoints.judge import identify_run
from pytest_mlperf.core.logs.discover import find_runs
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from tests.support.endpoints import SCORES
from tests.support.endpoints import configure
from tests.support.endpoints import edit
from tests.support.endpoints import make_result

BLOCK = """- name: gptoss_accuracy
  type: accuracy
  path: runs/accuracy.jsonl
  parser:
    prompt: question
  accuracy_config:
    eval_method: string_match
    ground_truth: ground_truth
    extractor: identity_extractor
    num_repeats: 1
"""
ROUGE = {
    "rouge1": "38.7792",
    "rouge2": "15.9075",
    "rougeL": "24.4957",
    "rougeLsum": "35.793",
    "gen_len": "8167644",
    "gen_num": 13368,
}
DATASETS = (("aime", 30, 8, 0.9), ("gpqa", 198, 5, 0.75), ("code", 1055, 3, 0.85))
"""gpt-oss: 4,395 answers to 1,283 questions."""


def judge_scores(
    root: Path, name: str, scorer: str, scores: list[tuple[str, int, int, Any]]
) -> Verdict:
    """Judge an accuracy run: dataset, samples, repeats and score of each part.

    ``name``: of benchmark and scenario, ``qwen3-vl-235b-a22b/Interactive``.
    """
    kind = "offline" if name.endswith("Offline") else "server"
    folder = make_result(root / name, kind)
    blocks = [
        f"- name: {part}\n  type: accuracy\n  accuracy_config:\n"
        f"    eval_method: {scorer}\n    num_repeats: {repeats}\n"
        for part, _, repeats, _ in scores
    ]
    configure(BLOCK, "".join(blocks))(folder)
    configure("  name: openai/gpt-oss-120b", "  name: served")(folder)
    entries = [
        {
            "dataset_name": part,
            "score": score,
            "unit_samples": samples,
            "num_repeats": repeats,
            "total_samples": samples * repeats,
            "complete": True,
        }
        for part, samples, repeats, score in scores
    ]
    edit(SCORES, "accuracy_scores", to=entries)(folder)
    numbers = [score for _, _, _, score in scores if isinstance(score, float)]
    mean = sum(numbers) / len(numbers) if numbers else None
    edit(SCORES, "average_accuracy", to=mean)(folder)
    (place,) = (p for p in find_runs(folder) if p.path.name == "accuracy")
    return identify_run(place)


@pytest.mark.parametrize(
    ("name", "scorer", "samples", "passes", "fails"),
    [
        ("llama3.1-8b/Server", "rouge", 13_368, ROUGE, ROUGE | {"rouge2": "15.70"}),
        ("llama3.1-8b/Offline", "rouge", 13_368, ROUGE, ROUGE | {"gen_len": "9e6"}),
        ("llama3.1-8b/Offline", "rouge", 13_368, ROUGE, ROUGE | {"gen_len": None}),
        ("qwen3-vl-235b-a22b/Server", "shopify_category_f1", 48_289, 0.7825, 0.782),
        ("qwen3-vl-235b-a22b/Server", "shopify_category_f1", 48_289,
         {"f1": "0.7825"}, {"f1": "0.782"}),
        ("qwen3-vl-235b-a22b/Interactive", "shopify_category_f1", 8000, 0.78, 0.7799),
        ("qwen3.6-27b/SingleStream", "bfcl_v4", 995, 0.8365, 0.8364),
        ("wan-2.2-t2v-a14b/Offline", "vbench", 248, 0.6978, 0.6977),
    ],
)  # fmt: skip
def test_a_score_passes_from_its_target_on(
    tmp_path: Path, name: str, scorer: str, samples: int, passes: Any, fails: Any
) -> None:
    """Shares of 1, percent, text and objects: each as its scorer writes it."""
    good = judge_scores(tmp_path / "a", name, scorer, [("one", samples, 1, passes)])
    bad = judge_scores(tmp_path / "b", name, scorer, [("one", samples, 1, fails)])
    broken = {c.name for c in bad.checks if c.status is not Status.PASS}

    assert [c for c in good.checks if c.status is not Status.PASS] == []
    assert len(broken) == 1
    assert broken.pop().startswith("accuracy_")
    assert good.metric is not None
    assert good.metric.key == good.scores[0].metric
    names = {c.name for c in good.checks if c.name.startswith("accuracy_")}
    assert {f"accuracy_{score.metric}" for score in good.scores} <= names
    assert all(score.value >= score.threshold for score in good.scores)


def test_several_datasets_count_by_their_questions(tmp_path: Path) -> None:
    """Not by the plain mean that the client writes, nor by the repeated answers."""
    found = judge_scores(tmp_path, "gpt-oss-120b/Server", "pass_at_1", [*DATASETS])
    questions = sum(samples for _, samples, _, _ in DATASETS)
    correct = sum(samples * score for _, samples, _, score in DATASETS)

    assert found.valid
    assert found.metric is not None
    assert found.metric.value == pytest.approx(100 * correct / questions)


def test_deepseek_is_scored_in_percent_with_the_length_of_its_answers(
    tmp_path: Path,
) -> None:
    """Without a tokenizer there is no length, which the round bounds from below."""
    name, scorer = "deepseek-r1/Server", "legacy_mlperf_deepseek_r1"
    parts: list[tuple[str, int, int, Any]] = [("one", 4388, 1, 81.0)]
    without = judge_scores(tmp_path, name, scorer, parts)
    path = tmp_path / name / SCORES
    values = json.loads(path.read_text("utf-8"))
    values["accuracy_scores"][0]["output_sequence_lengths"] = {
        "total": 3900 * 4388, "avg": 3900.0, "histogram": {"counts": [4388]},
    }  # fmt: skip
    path.write_text(json.dumps(values), "utf-8")
    (place,) = (p for p in find_runs(path.parent) if p.path.name == "accuracy")

    assert without.outcome == "ERROR"
    assert identify_run(place).valid
