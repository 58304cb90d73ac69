"""Starting from and ending on the device: formulas, refusals and the proof."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_mlperf.core.residency.bandwidth import compute_needs
from pytest_mlperf.core.residency.bandwidth import list_allowed_benchmarks
from pytest_mlperf.core.residency.rules import Claim
from pytest_mlperf.core.residency.rules import Decision
from pytest_mlperf.core.residency.rules import DirectPath
from pytest_mlperf.core.residency.rules import Probe
from pytest_mlperf.core.residency.rules import Residency
from pytest_mlperf.core.residency.rules import format_proof
from tests.support.residency import GOOD


def decide(
    path: DirectPath,
    benchmark: str,
    rate: float,
    *,
    start: bool = True,
    end: bool = False,
    type_bytes: float = 1,
    probe: Probe | None = None,
) -> Decision:
    claim = Claim(Residency(start, end), "lab", path, type_bytes, probe)
    return claim.decide(benchmark, rate)


@pytest.mark.parametrize(
    ("task", "each"),
    [
        ("resnet50", 3 * 224 * 224),
        ("ssd-small", 3 * 300 * 300),
        ("ssd-large", 3 * 1200 * 1200),
        ("bert", (2 * 384 + 1) * 4),
        ("dlrm", 270 * (16 * 1 + 26 * 4)),
        ("rnnt", 15 * 16000 * 2),
        ("3d-unet", 32944795),
    ],
)
def test_the_guides_formulas(task: str, each: int) -> None:
    """Throughput times the size that the tuning guide works out for each input."""
    found = {need.source: need for need in compute_needs(task, 10, 1, "in")}

    assert 10 * each == found["guide"].bytes_per_s
    assert set(list_allowed_benchmarks("in")) == {
        "resnet50", "ssd-small", "ssd-large", "bert", "dlrm", "rnnt", "3d-unet"
    }  # fmt: skip


def test_results_stay_on_the_device_for_3d_unet_alone() -> None:
    """One int8 label a voxel, as large as the input."""
    assert list_allowed_benchmarks("out") == ("3d-unet",)
    assert {need.bytes_per_s for need in compute_needs("3d-unet", 1, 1, "out")} == {
        32944795
    }


@pytest.mark.parametrize(
    ("task", "type_bytes", "guide", "rules"),
    [
        ("bert", 4, 3_076, 4_608),
        ("bert", 1, 3_076, 1_152),
        ("resnet50", 1, 150_528, 150_528),
        ("resnet50", 4, 150_528, 602_112),
        ("dlrm", 1, 32_400, 35_100),
    ],
)
def test_where_the_sources_differ_the_larger_is_to_be_met(
    task: str, type_bytes: float, guide: int, rules: int
) -> None:
    """Both are told; a link that carries the larger satisfies both readings."""
    found = compute_needs(task, 1, type_bytes, "in")

    assert {n.source: n.bytes_per_s for n in found} == {"guide": guide, "rules": rules}
    assert max(guide, rules) == found[0].bytes_per_s


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_rate_that_no_run_has_is_refused(rate: float) -> None:
    """Nothing is proven from a run that measured nothing."""
    with pytest.raises(ValueError, match="should be a number above 0"):
        compute_needs("bert", rate, 1, "in")


def test_enabled_and_documented_link_is_granted() -> None:
    """BERT at 7,717 samples/s takes 36 MB/s; the link has 25 GB/s."""
    decision = decide(GOOD, "bert", 7717, type_bytes=4)

    assert decision.granted
    assert decision.required_per_s == 7717 * 4608
    text = format_proof(decision)
    assert "start_from_device of bert on lab: granted" in text
    assert "0.035560 GB/s  rules: 7,717/s x 4,608 bytes (3 x 384 x type" in text
    assert "0.023737 GB/s  guide: 7,717/s x 3,076 bytes" in text
    assert "diagram: topology.png\nsoftware: GPUDirect RDMA\n" in text


@pytest.mark.parametrize(
    ("path", "task", "end", "said"),
    [
        (
            DirectPath(),
            "bert",
            False,
            "start_from_device is not enabled for lab: where",
        ),
        (
            GOOD,
            "retinanet",
            False,
            "start_from_device is not allowed for retinanet; it",
        ),
        (
            GOOD,
            "bert",
            True,
            "end_on_device is not allowed for bert; it is for 3d-unet",
        ),
        (
            replace(GOOD, end_on_device=False),
            "3d-unet",
            True,
            "end_on_device is not en",
        ),
        (replace(GOOD, diagram=""), "bert", False, "lacks diagram (the drawing"),
        (replace(GOOD, software=""), "bert", False, "lacks software (what uses"),
        (
            replace(GOOD, ingress_gb_s=None),
            "bert",
            False,
            "lacks ingress_gb_s, the mea",
        ),
        (
            replace(GOOD, ingress_gb_s=0.01),
            "bert",
            False,
            "ingress_gb_s = 0.01, but 0.031 GB/s are required at this throughput",
        ),
        (replace(GOOD, both_gb_s=0.1), "3d-unet", True, "both_gb_s = 0.1, but 658"),
    ],
)
def test_a_refusal_names_what_is_missing(
    path: DirectPath, task: str, end: bool, said: str
) -> None:
    """Each condition of the rules is one reason, with what to do."""
    decision = decide(path, task, 10_000, end=end)

    assert not decision.granted
    assert [said for why in decision.reasons if said in why] == [said]
    assert "refused because:" in format_proof(decision)


def test_all_reasons_are_told_at_once() -> None:
    """Nobody repairs a system file one message at a time."""
    decision = decide(DirectPath(), "bert", 100)

    assert len(decision.reasons) == 4
    assert all(f"  - {why}" in format_proof(decision) for why in decision.reasons)


def test_both_ways_need_the_sum() -> None:
    """A link that carries each way alone may not carry both at once."""
    rate = 500.0  # 16.47 GB/s each way
    one = decide(GOOD, "3d-unet", rate)
    both = decide(GOOD, "3d-unet", rate, end=True)
    wide = replace(GOOD, both_gb_s=30.0)
    narrow = decide(wide, "3d-unet", rate, end=True)

    assert one.granted
    assert both.granted
    assert 2 * rate * 32944795 == both.required_per_s
    assert [why[:44] for why in narrow.reasons] == [
        "both_gb_s = 30, but 32.945 GB/s are required"
    ]
    assert "32.944795 GB/s  both directions at once" in format_proof(both)


def test_measured_copies_can_contradict_what_is_declared() -> None:
    """A device that takes less from pinned memory than the link shall bring is told."""
    probe = Probe(1e9, 30e9, 31e9, "made-up G", 1 << 20)
    decision = decide(GOOD, "3d-unet", 100, probe=probe)

    assert [why[:66] for why in decision.reasons] == [
        "measured into the device: 1.000 GB/s from pinned memory, but 3.294"
    ]
    assert "copies of 1,048,576 bytes on made-up G" in format_proof(decision)


def test_nothing_asked_is_nothing_refused() -> None:
    """Both are off by default, and then no system needs any document."""
    decision = decide(DirectPath(), "retinanet", 100, start=False)

    assert decision.granted
    assert decision.required_per_s == 0
