"""What others published is found by the device's own name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from pytest_mlperf.core import published
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Verdict


@pytest.mark.parametrize(
    ("device", "family"),
    [
        ("NVIDIA H100 80GB HBM3", "H100-SXM"),
        ("NVIDIA H100 PCIe", ""),
        ("NVIDIA H100 NVL", ""),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H200 NVL", ""),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GB200", ""),
        ("Tesla T4", ""),
        ("AMD EPYC", ""),
    ],
)
def test_a_kind_is_known_by_nvml_s_name(device: str, family: str) -> None:
    """Boards of another power or bus are another kind."""
    assert family == published.find_family(device)


@pytest.mark.parametrize(
    ("device", "name", "scenario", "each"),
    [
        ("NVIDIA H100 80GB HBM3", "bert-99", Scenario.OFFLINE, 9_109.5),
        ("NVIDIA H100 80GB HBM3", "bert-99.9", Scenario.SERVER, 6_506.175),
        ("NVIDIA H100 80GB HBM3", "resnet50", Scenario.SERVER, 79_274.125),
        ("NVIDIA H200", "llama2-70b-99.9", Scenario.INTERACTIVE, 2_884.99),
    ],
)
def test_results_are_per_accelerator(
    device: str, name: str, scenario: Scenario, each: float
) -> None:
    """A system of eight is divided by eight."""
    found = published.find_result(device, name, scenario)

    assert found is not None
    assert found.each == pytest.approx(each, rel=1e-5)


@pytest.mark.parametrize(
    ("device", "name", "scenario"),
    [
        ("AMD EPYC", "bert-99", Scenario.OFFLINE),
        ("NVIDIA H200", "bert-99", Scenario.SINGLE_STREAM),
        ("NVIDIA H200", "capitals", Scenario.OFFLINE),
    ],
)
def test_what_nobody_published_is_not_compared(
    device: str, name: str, scenario: Scenario
) -> None:
    """None is no zero."""
    assert published.find_result(device, name, scenario) is None


def test_the_table_is_of_valid_results_on_known_accelerators() -> None:
    """97 rows of three rounds; each of a rate, and none twice."""
    rows = json.loads(published.RESULTS.read_text(encoding="utf-8"))
    families = {family for _, family in published.FAMILY_NAMES}

    assert len(published.read_results()) == len(rows) == 97
    assert {row["round"] for row in rows} == {"v4.1", "v5.1", "v6.0"}
    assert {row["family"] for row in rows} == families
    assert all(row["unit"].endswith("/s") and row["total"] > 0 for row in rows)
    assert all(row["accelerators"] > 0 and row["submitter"] for row in rows)


def test_the_comparison_says_with_whom() -> None:
    """Share, figure, round, submitter and how many accelerators it was taken on."""
    found = published.find_result("NVIDIA H200", "bert-99", Scenario.OFFLINE)
    assert found is not None

    assert found.beside(18_447.75, 4, "samples/s") == (
        "0.50 of the best published 9,224 samples/s each (v4.1 closed, Dell, 8 x H200)"
    )


RATE = Metric("result_samples_per_second", 4_412.0, "samples/s")
H100 = RunFacts(device="NVIDIA H100 80GB HBM3", accelerators=1, bare_loop_per_s=4600.0)


def compare(make: Callable[..., Verdict], **changes: object) -> dict[str, str]:
    fields = {"metric": RATE, "run": H100, "labels": ("performance only",)}
    return published.list_comparisons(make(**(fields | changes)), Scenario.OFFLINE)


def test_a_result_stands_beside_its_bare_loop_and_the_best_published_one(
    make_verdict: Callable[..., Verdict],
) -> None:
    """Both ratios are facts of the verdict."""
    found = compare(make_verdict)

    assert found["of the bare loop"] == "0.959"
    assert found["beside"].startswith("0.48 of the best published 9,110 samples/s each")


def test_several_accelerators_share_a_result(
    make_verdict: Callable[..., Verdict],
) -> None:
    """The ratio is per accelerator."""
    found = compare(make_verdict, run=replace(H100, accelerators=2))

    assert found["beside"].startswith("0.24 of the best")


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ("embedded", "fast")},
        {"labels": ("null answers",)},
        {"labels": ("rehearsal",)},
        {"mode": "accuracy"},
        {"metric": None},
        {"metric": Metric("result_90.00_percentile_latency_ns", 2.0, "ms")},
        {"run": RunFacts(device="AMD EPYC", accelerators=1)},
        {"run": replace(H100, device="NVIDIA H100 80GB HBM3 MIG 1g.10gb")},
        {"run": replace(H100, accelerators=0)},
    ],
)
def test_what_is_another_thing_is_not_set_beside(
    make_verdict: Callable[..., Verdict], changes: dict[str, object]
) -> None:
    """A stand-in's rate says nothing of BERT-large's; a latency is no rate; nor does
    a seventh of a GPU, or a server whose GPUs nobody counted.
    """
    assert "beside" not in compare(make_verdict, **changes)


@pytest.mark.parametrize("label", ["null answers", "rehearsal"])
def test_a_rate_that_an_engine_was_told_is_no_bare_loop(
    make_verdict: Callable[..., Verdict], label: str
) -> None:
    """What only answers or sleeps has no loop of its own to compare with."""
    assert "of the bare loop" not in compare(make_verdict, labels=(label,))


def test_figures_of_all_sizes_are_written_out() -> None:
    """No exponent, and two digits of small ones."""
    large = published.find_result("NVIDIA H100 80GB HBM3", "resnet50", Scenario.OFFLINE)
    small = published.find_result(
        "NVIDIA H100 80GB HBM3", "llama3.1-405b", Scenario.OFFLINE
    )
    assert large is not None
    assert small is not None

    assert "published 89,080 samples/s each" in large.beside(1.0, 1, "samples/s")
    assert "published 48.95 tokens/s each" in small.beside(1.0, 1, "tokens/s")
