"""The best published closed results per accelerator, for comparison.

A ratio to one of them says how far a system is from the best of its kind. It is no
verdict: another host, other software and, with generated weights, another model.

Source: MLPerf Inference v4.1 and v5.1, datacenter, closed; the system's figure divided
by its accelerators. v4.1 is the last round with many results of BERT and ResNet-50.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Published:
    """One system's result."""

    total: float
    """In the verdict's unit: samples/s, queries/s or tokens/s."""
    accelerators: int
    accelerator: str
    round: str
    submitter: str

    @property
    def each(self) -> float:
        """Per accelerator."""
        return self.total / self.accelerators

    def beside(self, value: float, accelerators: int, unit: str) -> str:
        """Return a result's share of this one, in words."""
        share = value / accelerators / self.each
        kind = f"{self.accelerators} x {self.accelerator}"
        digits = 0 if self.each >= 100 else 2
        return (
            f"{share:.2f} of the best published {self.each:,.{digits}f} {unit} each "
            f"({self.round} closed, {self.submitter}, {kind})"
        )


_FAMILIES = (
    (r"\bH100\b.*\bHBM3\b|H100[ -]SXM", "H100-SXM"),
    (r"\bH200\b(?!.*NVL)", "H200"),
    (r"\bB200\b(?<!GB200)", "B200"),
)
"""What NVML calls a device -> what the tables below call it, memory sizes apart."""

_Key = tuple[str, Scenario]
_O, _S, _I = Scenario.OFFLINE, Scenario.SERVER, Scenario.INTERACTIVE


def _dell(results: Mapping[_Key, float], accelerator: str) -> dict[_Key, Published]:
    """Return v4.1 results of Dell's XE9680 with eight of them."""
    return {
        key: Published(total, 8, accelerator, "v4.1", "Dell")
        for key, total in results.items()
    }


_TABLE: Mapping[str, Mapping[_Key, Published]] = {
    "H100-SXM": _dell(
        {
            ("bert-99", _O): 70_594, ("bert-99", _S): 56_011.6,
            ("bert-99.9", _O): 61_736.4, ("bert-99.9", _S): 49_611.8,
            ("resnet50", _O): 709_849, ("resnet50", _S): 584_207,
        },
        "H100-SXM",
    ) | {
        ("llama2-70b-99", _O): Published(124_879, 32, "H100-SXM", "v5.1", "Cisco"),
        ("llama2-70b-99", _S): Published(122_274, 32, "H100-SXM", "v5.1", "Cisco"),
        ("llama3.1-8b", _O): Published(5_777.08, 1, "H100", "v5.1", "RedHat"),
        ("llama3.1-8b", _S): Published(5_103.99, 1, "H100", "v5.1", "RedHat"),
        ("llama3.1-405b", _O): Published(783.14, 16, "H100-SXM", "v5.1", "Cisco"),
        ("llama3.1-405b", _S): Published(1_126.9, 32, "H100-SXM", "v5.1", "Cisco"),
    },
    "H200": _dell(
        {
            ("bert-99", _O): 73_791, ("bert-99", _S): 58_091.3,
            ("bert-99.9", _O): 65_322.6, ("bert-99.9", _S): 51_213.5,
            ("resnet50", _O): 768_235,
        },
        "H200",
    ) | {
        ("resnet50", _S): Published(632_229, 8, "H200", "v4.1", "NVIDIA"),
        ("llama2-70b-99", _O): Published(35_316.7, 8, "H200", "v5.1", "Dell"),
        ("llama2-70b-99", _S): Published(34_193.8, 8, "H200", "v5.1", "ASUSTeK"),
        ("llama2-70b-99", _I): Published(23_079.9, 8, "H200", "v5.1", "Nebius"),
        ("llama3.1-8b", _O): Published(66_036.8, 8, "H200", "v5.1", "HPE"),
        ("llama3.1-8b", _S): Published(64_914.6, 8, "H200", "v5.1", "HPE"),
        ("llama3.1-405b", _O): Published(552.75, 8, "H200", "v5.1", "Nebius"),
        ("mixtral-8x7b", _O): Published(62_108.4, 8, "H200", "v5.1", "HPE"),
        ("mixtral-8x7b", _S): Published(60_955.1, 8, "H200", "v5.1", "HPE"),
    },
    "B200": {
        ("deepseek-r1", _O): Published(33_379, 8, "B200", "v5.1", "NVIDIA"),
        ("deepseek-r1", _S): Published(18_592.2, 8, "B200", "v5.1", "NVIDIA"),
        ("llama2-70b-99", _O): Published(102_909, 8, "B200", "v5.1", "Lenovo"),
        ("llama2-70b-99", _S): Published(101_611, 8, "B200", "v5.1", "Nebius"),
        ("llama3.1-8b", _O): Published(146_960, 8, "B200", "v5.1", "Lenovo"),
        ("llama3.1-8b", _S): Published(128_794, 8, "B200", "v5.1", "Dell"),
    },
}  # fmt: skip


def find_family(device: str) -> str:
    """Return what the tables call a device, or an empty string."""
    if re.search(r"\bMIG\b", device):  # a part of one
        return ""
    return next((name for like, name in _FAMILIES if re.search(like, device)), "")


def find_result(device: str, benchmark: str, scenario: Scenario) -> Published | None:
    """Return the best published result of a device's kind, None where none is known.

    ``benchmark`` with its target, as submissions name it: ``bert-99.9``.
    """
    results = _TABLE.get(find_family(device), {})
    if benchmark.startswith("llama2-70b"):  # one result, submitted under both targets
        benchmark = "llama2-70b-99"
    return results.get((benchmark, scenario))


def list_comparisons(verdict: Verdict, scenario: Scenario) -> dict[str, str]:
    """Return facts that set a performance result beside others: its own bare loop, and
    the best published one where the true architecture ran on a known accelerator.
    """
    metric, run = verdict.metric, verdict.run
    if (
        metric is None
        or verdict.mode != "performance"
        or not metric.unit.endswith("/s")
    ):
        return {}
    found = {}
    loop = run.bare_loop_per_s
    # The rate that an engine is told, which does no work, or none that counts.
    simulated = {"null answers", "rehearsal"} & {*verdict.labels}
    if loop and not simulated and not metric.unit.startswith("tokens"):
        found["of the bare loop"] = f"{metric.value / loop:.3f}"
    best = _find_for(verdict, scenario)
    if best and run.accelerators:  # of a service somewhere else nobody here knows
        found["beside"] = best.beside(metric.value, run.accelerators, metric.unit)
    return found


def _find_for(verdict: Verdict, scenario: Scenario) -> Published | None:
    # A stand-in is another model, and what only answers is none.
    if {"embedded", "null answers", "rehearsal"} & {*verdict.labels}:
        return None
    return find_result(verdict.run.device, verdict.benchmark, scenario)
