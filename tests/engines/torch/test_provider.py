"""The torch engine where there is no CUDA device: what it says, what it refuses."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from pytest_mlperf.api.engine import EndsOnDevice
from pytest_mlperf.api.engine import GathersItself
from pytest_mlperf.api.engine import TimesBatches
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.engines.torch.bert.stream import PackedStream
from pytest_mlperf.engines.torch.kernel_options import find_kernel
from pytest_mlperf.engines.torch.padded import PaddedStream
from pytest_mlperf.engines.torch.padded import choose_graph_sizes
from pytest_mlperf.engines.torch.provider import TORCH
from pytest_mlperf.engines.torch.provider import _check_precision
from pytest_mlperf.engines.torch.verify import match_candidates
from pytest_mlperf.engines.torch.verify import measure_error
from pytest_mlperf.run.engine_backend import warm_up_sizes
from pytest_mlperf.sut.completion import batch_gatherer
from tests.support import calls
from tests.support import doubles

HAS_TORCH = importlib.util.find_spec("torch") is not None


@pytest.mark.skipif(HAS_TORCH, reason="PyTorch is installed")
def test_without_pytorch_the_remedy_is_the_extra() -> None:
    """A skip names what to install."""
    assert TORCH.unavailable() == (
        "the engine torch needs PyTorch with CUDA: pip install 'pytest-mlperf[torch]'"
    )


@pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is not installed")
def test_without_a_device_the_remedy_is_the_driver_or_another_engine() -> None:
    """PyTorch's own build is in the message: a CPU wheel finds no device either."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    said = TORCH.unavailable() or ""

    assert f"PyTorch {torch.__version__}" in said
    assert "nvidia-smi" in said
    assert "--mlperf-engine onnxruntime" in said


def test_fp8_is_refused_before_ada() -> None:
    """The message has the device, what it has, what is needed, and what to ask for."""
    with pytest.raises(BuildFailed, match=r"A100.*8\.0, but fp8 needs 8\.9.*fp16"):
        _check_precision("fp8", "NVIDIA A100", (8, 0))
    _check_precision("fp8", "NVIDIA L4", (8, 9))
    _check_precision("fp16", "NVIDIA T4", (7, 5))


def test_the_last_layout_is_the_one_for_latency() -> None:
    """One stream; the others overlap copies and compute."""
    layouts = TORCH.layouts(16)

    assert layouts[-1].count == 1
    assert all(layout.count > 1 for layout in layouts[:-1])


def test_a_benchmarks_default_precision_becomes_fp16() -> None:
    """int8 is no precision of this engine; nobody has to type one for a first run."""
    assert set(TORCH.precision_for.values()) <= set(TORCH.precisions)
    assert set(TORCH.precision_for) == {"int8", "fp32"}


def test_a_kernel_that_is_none_is_refused() -> None:
    """Before anything is built, with what there is to choose from."""
    with pytest.raises(ValueError, match="stem=cutlass, but should be cuda or triton"):
        TORCH.check_options({"stem": "cutlass"})
    TORCH.check_options({"stem": "triton", "attention": "fp8"})
    TORCH.check_options({"attention_kernel": "triton"})


@pytest.mark.parametrize(
    ("name", "value", "end"),
    [
        ("attention", "triton", "fp16 or fp8; did you mean attention_kernel=triton?"),
        ("attention_kernel", "fp8", "cuda or triton; did you mean attention=fp8?"),
        ("attention", "int8", "fp16 or fp8"),
    ],
)
def test_what_attention_reads_is_not_its_kernel(
    name: str, value: str, end: str
) -> None:
    """Two options on one subject: a value of the other one is told as that."""
    message = re.escape(f"{name}={value}, but should be {end}")
    with pytest.raises(ValueError, match=f"^{message}$"):
        TORCH.check_options({name: value})


def test_the_fact_of_a_kernel_says_why_it_is_not_the_default() -> None:
    """Asked for, or something is missing; a run without either has CUDA C++."""
    asked = {"blocks": "triton"}

    assert find_kernel({}, "blocks", None).describe() == "CUDA C++"
    assert (
        find_kernel({}, "stem", "no cuda-bindings").describe()
        == "Triton, no cuda-bindings"
    )
    assert (
        find_kernel(asked, "blocks", None).describe() == "Triton, as blocks=triton asks"
    )


def test_padding_does_not_count_in_the_agreement() -> None:
    """What nobody reads may be anything."""
    wanted = np.array([[1.0, 2.0, 7.0]])
    found = np.array([[1.0, 2.0, -9.0]])
    mask = np.array([[True, True, False]])

    assert measure_error([wanted], [found], mask) == (0.0, 1.0)
    assert measure_error([wanted], [found], None)[0] > 1


def test_agreement_is_relative_to_the_spread() -> None:
    """A constant that all outputs share hides no difference."""
    wanted = np.array([[100.0, 102.0]])
    found = np.array([[101.0, 101.0]])
    error, same = measure_error([wanted], [found], None)

    assert error == pytest.approx(1.0)
    assert same == 0.0


def test_candidates_are_matched_whatever_their_order() -> None:
    """Three of four are shared; scores and boxes are compared for those alone."""
    scores = np.array([[9.0, 8.0, 7.0, 6.0]])
    anchors, labels = np.array([[5, 5, 2, 1]]), np.array([[0, 1, 0, 0]])
    boxes = np.arange(16.0).reshape(1, 4, 4)
    order = [1, 0, 3, 2]
    found = [scores[:, order], anchors[:, order], labels[:, order], boxes[:, order]]
    found[1] = np.where(found[1] == 2, 3, found[1])  # another anchor made the cut

    ours, theirs, shared = match_candidates(
        [scores, anchors, labels, boxes], found, [1, 2]
    )

    assert shared == 0.75
    assert [a.shape for a in ours] == [(3,), (3, 4)]
    assert measure_error(ours[1:], theirs[1:], None) == (0.0, 1.0)
    assert sorted(ours[0]) == [6.0, 8.0, 9.0]
    found[3] = found[3][:, ::-1]
    _, wrong, _ = match_candidates([scores, anchors, labels, boxes], found, [1, 2])
    assert measure_error(ours[1:], wrong[1:], None)[0] > 0.5


@dataclass
class Recording:
    """A stream that notes which sizes it ran."""

    answers: bool = False

    def graph_sizes(self, batch: int) -> Sequence[int]:
        return choose_graph_sizes(batch)

    def infer(self, batch: Batch, size: int) -> Sequence[Any]:
        raise AssertionError((batch, size))

    def close(self) -> None:
        """Nothing is held."""


def test_a_server_run_is_warmed_up_at_every_size_that_is_recorded() -> None:
    """Others need 1 and the full batch: nothing is recorded that nobody runs."""
    stream = Recording()

    assert warm_up_sizes(stream, 20, varying=True) == [1, 2, 4, 8, 16, 20]
    assert warm_up_sizes(stream, 20, varying=False) == [1, 20]
    assert warm_up_sizes(Fetching(), 20, varying=True) == [1, 20]


@pytest.mark.parametrize("batch", [1, 5, 64, 100, 160, 256, 300, 512])
def test_a_batch_wastes_little_of_the_graph_that_it_runs_in(batch: int) -> None:
    """The recorded sizes end with the first that holds the batch, at most 16 more."""
    sizes = choose_graph_sizes(batch)

    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] >= batch
    assert all(size < batch for size in sizes[:-1])
    assert sizes[-1] - batch < (16 if batch <= 256 else 129)


@dataclass
class Fetching:
    """An engine that gathers samples itself, from datasets of arrays."""

    answers: bool = False

    def gather_from(self, dataset: Any) -> Any:
        if not hasattr(dataset, "arrays"):
            return None
        return lambda indices: {"chosen": np.array(indices)}

    def infer(self, batch: Batch, size: int) -> Sequence[Any]:  # noqa: ARG002
        return [batch["chosen"]]

    def close(self) -> None:
        """Nothing is held."""


def test_an_engine_may_gather_by_itself() -> None:
    """The hot path hands it the indices and nothing else."""
    gather = batch_gatherer(Fetching(), doubles.numbers())

    assert gather([3, 1])["chosen"].tolist() == [3, 1]


def abilities(
    padded: PaddedStream, packed: PackedStream
) -> tuple[GathersItself, EndsOnDevice, TimesBatches, TimesBatches]:
    """Let mypy compare the streams with the protocols; they need a device to open."""
    return padded, padded, padded, packed


def test_an_engine_that_does_not_gets_the_datasets_batch() -> None:
    """The default is unchanged."""
    dataset = doubles.numbers()
    gather = batch_gatherer(doubles.Stream(calls.echo), dataset)

    assert gather([3, 1])["number"][:, 0].tolist() == [3.0, 1.0]
