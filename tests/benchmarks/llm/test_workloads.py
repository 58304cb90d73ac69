"""The LLM benchmarks on small files in their official formats, and the embedded one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.api.benchmark import Benchmark
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.benchmarks import deepseek_r1
from pytest_mlperf.benchmarks import gpt_oss
from pytest_mlperf.benchmarks import llama
from pytest_mlperf.benchmarks import mixtral
from pytest_mlperf.benchmarks.llm import embedded
from pytest_mlperf.benchmarks.llm.workload import LLMWorkload
from pytest_mlperf.core.logs.accuracy import read_accuracy_txt
from pytest_mlperf.core.types import Mode

pytest.importorskip("pandas", reason="pip install 'pytest-mlperf[llm]'")
pytest.importorskip("rouge_score", reason="pip install 'pytest-mlperf[llm]'")
BENCHMARKS: Sequence[Benchmark] = (
    llama.LLAMA2_70B, llama.LLAMA3_1_8B, llama.LLAMA3_1_8B_EDGE, llama.LLAMA3_1_405B,
    mixtral.MIXTRAL, deepseek_r1.DEEPSEEK_R1, gpt_oss.GPT_OSS,
)  # fmt: skip
UUID = "0123abcd-0123-abcd-0123-0123456789ab"
ORCA = "Paris is the capital of France."


def put(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write a table as the official files have it, by its name."""
    import pandas

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        values = zip(*columns.values(), strict=True)
        rows = [dict(zip(columns, row, strict=True)) for row in values]
        path.write_text(json.dumps(rows))
        return
    frame = pandas.DataFrame(
        {n: pandas.Series(c, dtype=object) for n, c in columns.items()}
    )
    frame.columns = pandas.Index(list(columns), dtype=object)
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    else:
        frame.to_pickle(path)


def answered(
    workload: LLMWorkload, texts: Sequence[str], tokens: int = 4
) -> dict[str, float]:
    """Score these answers as a service without token ids gives them."""
    said = {i: workload.encode(Answer(text, tokens)) for i, text in enumerate(texts)}
    return workload.score(said)


def official(tmp_path: Path, text: str) -> Mapping[str, float]:
    """Return what the official patterns read from accuracy.txt."""
    (tmp_path / "accuracy.txt").write_text(text + "\n")
    return read_accuracy_txt(tmp_path).metrics


@pytest.mark.parametrize("which", BENCHMARKS, ids=lambda b: b.name)
def test_a_missing_dataset_is_a_skip_with_the_remedy(
    which: Benchmark, tmp_path: Path
) -> None:
    """File, number of samples, where to put it and who offers it."""
    with pytest.raises(
        RequirementMissing,
        match=rf"{which.name} official: .* samples\) not found.*scratch.*with data/"
        rf"{which.name}/.* from the MLCommons",
    ):
        which.open_workload("official", tmp_path)


def test_llama2_sends_tokens_and_is_scored_by_rouge(tmp_path: Path) -> None:
    """At most 1,024 tokens, at least one, greedy; means over the samples."""
    put(
        tmp_path / "data/llama2-70b/open_orca_gpt4_tokenized_llama.sampled_24576.pkl",
        {"tok_input": [[1, 5], [1, 6, 7]], "output": [ORCA, "two words"]},
    )
    workload = llama.LLAMA2_70B.open_official(tmp_path)
    metrics = answered(workload, [f" {ORCA}\n", "something else"])
    found = official(tmp_path, workload.accuracy_text(metrics))

    assert workload.prompt(1).token_ids == (1, 6, 7)
    assert workload.prompt(0).max_tokens == 1024
    assert workload.sampling == {"min_tokens": 1}
    assert 50.0 == metrics["ROUGE1"] == metrics["ROUGEL"]
    assert metrics == found


def test_a_dataset_of_another_size_is_refused(tmp_path: Path) -> None:
    """The official reference holds for all of it."""
    put(
        tmp_path / "open_orca_gpt4_tokenized_llama.sampled_24576.parquet",
        {"tok_input": [[1]], "output": ["a"]},
    )
    with pytest.raises(
        ValueError, match=r"1 samples, but llama2-70b should have 24,576"
    ):
        llama.LLAMA2_70B.open_workload("official", tmp_path)


def test_a_row_without_tokens_is_named(tmp_path: Path) -> None:
    """An empty prompt would be answered fast."""
    put(
        tmp_path / "open_orca_gpt4_tokenized_llama.sampled_24576.pkl",
        {"tok_input": [[1], []], "output": ["a", "b"]},
    )
    with pytest.raises(ValueError, match=r"row 1: '\[\]' is not a list of token ids"):
        llama.LLAMA2_70B.open_official(tmp_path)


@pytest.mark.parametrize("which", [llama.LLAMA3_1_8B, llama.LLAMA3_1_8B_EDGE])
def test_summaries_need_the_official_sentence_splitter(
    which: llama.LlamaBenchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ROUGE-Lsum is defined by it: without it nothing is measured, with a remedy."""
    import nltk

    put(tmp_path / which.dataset.paths[0], {"tok_input": [[1]], "output": ["a"]})
    monkeypatch.setattr(nltk.data, "path", [])

    with pytest.raises(RequirementMissing, match="punkt_tab"):
        which.open_official(tmp_path)


def test_summaries_are_scored_by_rouge_and_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """128 tokens, seed 42; GEN_LEN is the characters of all answers."""
    from pytest_mlperf.benchmarks.llm import rouge

    # The splitter's data come from the network; what it is given to does not change.
    monkeypatch.setattr(
        rouge, "load_sentence_splitter", lambda: embedded.split_sentences
    )
    targets = ["One thing. Another thing.", "A third."]
    put(tmp_path / "data/cnn_eval.json", {"tok_input": [[1], [2]], "output": targets})
    workload = llama.LLAMA3_1_8B.open_official(tmp_path)
    metrics = answered(workload, targets)
    text = workload.accuracy_text(metrics)

    assert workload.prompt(0).max_tokens == 128
    assert workload.sampling == {"min_tokens": 1, "seed": 42}
    assert metrics["GEN_LEN"] == float(sum(map(len, targets)))
    assert metrics["ROUGELSUM"] == 100.0
    assert text.startswith("{'rouge1': '100.0', 'rouge2': ")
    assert metrics == official(tmp_path, text)


def test_long_contexts_are_judged_each_by_its_metric(tmp_path: Path) -> None:
    """ROUGE-L over its samples alone, exact match over the others."""
    put(
        tmp_path / "mlperf_llama3.1_405b_dataset_8313_processed_fp16_eval.pkl",
        {
            "tok_input": [[1], [2], [3], [4]],
            "gt_output": ["a summary", UUID, "Rome|Roma", "Oslo"],
            "metric": ["rouge", "niah_em", "qa_em", "qa_em"],
        },
    )
    workload = llama.LLAMA3_1_405B.open_official(tmp_path)
    metrics = answered(workload, ["a summary", UUID, "Answer: roma", "Answer: Bergen"])

    assert workload.prompt(0).max_tokens == 2000
    assert metrics == {
        "ROUGEL": 100.0,
        "exact_match": 66.6667,
        "TOKENS_PER_SAMPLE": 4.0,
    }
    assert metrics == official(tmp_path, workload.accuracy_text(metrics))


def test_an_unknown_metric_in_a_dataset_is_refused(tmp_path: Path) -> None:
    """Rather than left out of the mean."""
    put(
        tmp_path / "mlperf_llama3.1_405b_dataset_8313_processed_fp16_eval.pkl",
        {"tok_input": [[1]], "gt_output": ["a"], "metric": ["bleu"]},
    )
    with pytest.raises(ValueError, match="'bleu', but should have rouge, niah_em"):
        llama.LLAMA3_1_405B.open_official(tmp_path)


def test_mixtral_judges_sums_and_questions_and_never_programs(tmp_path: Path) -> None:
    """MBXP's gate finds no figure, and accuracy.txt says why."""
    put(
        tmp_path / "data/moe/09292024_mixtral_15k_mintoken2_v1.pkl",
        {
            "tok_input": [[1], [2], [3], [4]],
            "gt_output": [ORCA, "12", "7", "assert f(1) == 1"],
            "dataset": ["OpenOrca", "GSM8K", "GSM8K", "MBXP"],
        },
    )
    workload = mixtral.open_official(tmp_path, None)
    answers = [ORCA, "The answer is 12", "The answer is 8", "def f(x): return x\n```\n"]
    metrics = answered(workload, answers)
    text = workload.accuracy_text(metrics)

    assert [workload.prompt(i).stop for i in range(4)] == [(), (), (), ("\n```\n",)]
    assert workload.sampling["min_tokens"] == 2
    assert metrics["gsm8k_accuracy"] == 50.0
    assert metrics["ROUGE2"] == 100.0
    assert metrics == official(tmp_path, text)
    assert "mbxp_accuracy" not in metrics
    assert "# mbxp_accuracy not judged: it comes from running programs" in text


DEEPSEEK: Mapping[str, Sequence[Any]] = {
    "text_input": ["q1", "q2", "q3"],
    "ground_truth": ["B", "C", "42"],
    "dataset": ["gpqa", "mmlu_pro", "aime1983"],
}


def test_deepseek_is_scored_when_every_sample_can_be_judged(tmp_path: Path) -> None:
    """20,000 tokens; the mean over samples, not over datasets."""
    path = tmp_path / "mlperf_deepseek_r1_dataset_4388_fp8_eval.pkl"
    put(path, DEEPSEEK)
    workload = deepseek_r1.open_official(tmp_path, None)
    metrics = answered(workload, ["Answer: B", "It is C", r"\boxed{41}"])

    assert (workload.prompt(0).text, workload.prompt(0).max_tokens) == ("q1", 20_000)
    assert metrics["exact_match"] == 66.6667
    assert official(tmp_path, workload.accuracy_text(metrics)) == {
        "exact_match": 66.6667,
        "TOKENS_PER_SAMPLE": 4.0,
    }
    assert workload.unjudged == {}


def test_deepseek_with_programs_has_an_upper_bound_alone(tmp_path: Path) -> None:
    """The gate never passes on what was not judged; the bound can still fail it."""
    more = {"text_input": "q4", "ground_truth": "abc", "dataset": "livecodebench"}
    columns: dict[str, Sequence[Any]]
    columns = {name: [*values, more[name]] for name, values in DEEPSEEK.items()}
    columns["tok_input"] = [[1], [2], [3], [4]]
    put(tmp_path / "mlperf_deepseek_r1_dataset_4388_fp8_eval.pkl", columns)
    workload = deepseek_r1.open_official(tmp_path, None)
    metrics = answered(workload, ["Answer: A", "It is C", r"\boxed{42}", "```x```"])
    text = workload.accuracy_text(metrics)

    assert workload.prompt(3).token_ids == (4,)
    assert metrics["exact_match_at_most"] == 75.0
    assert official(tmp_path, text) == {"TOKENS_PER_SAMPLE": 4.0}
    assert "# exact_match not judged: livecodebench: " in text


def test_gpt_oss_asks_other_questions_for_accuracy(tmp_path: Path) -> None:
    """Another file, longer answers, and repeated questions counted once."""
    put(
        tmp_path / "data/gpt-oss-120b/perf/perf_eval_ref.parquet",
        {"tok_input": [[1], [2]]},
    )
    put(
        tmp_path / "data/gpt-oss-120b/acc/acc_eval_inputs.parquet",
        {
            "input_tokens": [[7], [8], [9]],
            "dataset": ["aime25", "gpqa_diamond", "gpqa_diamond"],
            "ground_truth": ["5", "A", "B"],
        },
    )
    workload = gpt_oss.open_official(tmp_path, (2, 3))
    exact = workload.during(Mode.ACCURACY)
    metrics = answered(exact, [r"\boxed{5}", "A", "A"])
    # 1/8 + 1/5 of 1/8 + 2/5.
    share = round((1 / 8 + 1 / 5) / (1 / 8 + 2 / 5) * 100, 4)

    assert workload is workload.during(Mode.PERFORMANCE)
    assert [w.prompt(0).max_tokens for w in (workload, exact)] == [10_240, 32_768]
    assert [w.prompt(0).token_ids for w in (workload, exact)] == [(1,), (7,)]
    assert workload.sampling["temperature"] == 1.0
    assert metrics["exact_match"] == share
    assert workload.digest != exact.digest


def test_gpt_oss_is_measured_without_the_accuracy_file(tmp_path: Path) -> None:
    """Speed needs one file, accuracy says which other."""
    put(tmp_path / "perf/perf_eval_ref.parquet", {"tok_input": [[1]]})
    workload = gpt_oss.open_official(tmp_path, (1, 1))

    with pytest.raises(
        RequirementMissing, match=r"acc/acc_eval_inputs\.parquet \(4,395 samples\)"
    ):
        workload.during(Mode.ACCURACY)


def test_an_answer_to_no_question_is_refused() -> None:
    """A log of another dataset is not scored."""
    workload = embedded.open_embedded()

    with pytest.raises(
        ValueError, match="sample 100, but should be to samples 0 to 99"
    ):
        workload.score({100: workload.encode(Answer("x", 1))})


def test_the_embedded_workload_asks_about_a_hundred_countries() -> None:
    """Their facts score 100 against themselves, and whatever follows does not count."""
    workload = embedded.open_embedded()
    rows = json.loads((embedded.EMBEDDED / "countries.json").read_text())
    first = workload.prompt(0)
    expected = [embedded.EXPECTED.format(**row) for row in rows]
    metrics = answered(workload, [f" {text}\nNew York" for text in expected])

    assert 100 == workload.total == len({row["country"] for row in rows})
    assert first.text.partition("\n")[0] == "Berlin (Germany): capital of Germany."
    assert first.text.endswith(f"\n{rows[0]['capital']} ({rows[0]['country']}):")
    assert "Germany" not in [row["country"] for row in rows]
    assert (first.max_tokens, first.stop) == (6, ())
    assert workload.performance_count == 20
    assert metrics["ROUGELSUM"] == 100.0
    assert set(workload.reference) == set(metrics)


def test_a_changed_embedded_file_is_refused(tmp_path: Path) -> None:
    """The reference belongs to these questions alone."""
    for name in ("countries.json", "manifest.json"):
        (tmp_path / name).write_bytes((embedded.EMBEDDED / name).read_bytes())
    (tmp_path / "countries.json").write_text("[]")

    with pytest.raises(ValueError, match=r"countries\.json has sha256 .*should be"):
        embedded.open_embedded(tmp_path)


@pytest.mark.parametrize("which", BENCHMARKS, ids=lambda b: b.name)
def test_only_the_smallest_llama_has_an_embedded_workload(
    which: Benchmark,
) -> None:
    """The others are skipped with words."""
    if which.name.startswith("llama3.1-8b"):
        assert which.open_workload("embedded", None).kind == "embedded"
        return
    with pytest.raises(
        RequirementMissing, match=f"{which.name} has no embedded workload"
    ):
        which.open_workload("embedded", None)
