"""Kernels of CUDA C++ that the compiler refuses: Triton's run, and a fact says why.

Without a device nothing is loaded: ``load_kernel`` ends where the compiler answers. Its
answer is NVRTC's where that is installed, and written down where it is not.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.engines.torch import cuda_source
from pytest_mlperf.engines.torch.kernel_options import KernelChoice
from pytest_mlperf.engines.torch.kernel_options import find_kernel

needs_torch = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "triton"))), reason="needs torch"
)
WRONG = "int wrong = no_such_name;\n"
FACT = "narrow blocks by"


def ask_compiler(path: Path, name: str, defines: Any, *others: Any) -> Any:
    """Play ``load_kernel`` up to the compiler's answer."""
    del name, others
    if cuda_source.find_missing() is None:
        cuda_source.compile_source(path, dict(defines), "sm_90a")
        raise AssertionError(f"{path} compiles")
    said = f'{path.name}(1): error: identifier "no_such_name" is undefined'
    raise cuda_source.CudaSourceError(
        f"{path.name} does not compile: {said}\n\n1 error"
    )


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    path = tmp_path / "block.cu"
    path.write_text(WRONG)
    return path


def test_what_the_compiler_refuses_is_triton_s(wrong: Path) -> None:
    """The fact has the compiler's first line, and it is asked once in a build."""
    asked, facts = [], {"samples fetched by": "a kernel"}
    choice = find_kernel({}, "blocks", None)
    choice.note(facts, FACT)

    def by_cuda() -> str:
        asked.append(0)
        return str(ask_compiler(wrong, "block", ()))

    before = facts[FACT]
    answers = [choice.run(by_cuda, lambda: "Triton's") for _ in range(2)]

    assert before == "CUDA C++"
    assert answers == ["Triton's"] * 2
    assert len(asked) == 1
    assert facts[FACT].startswith("Triton, block.cu does not compile: block.cu(1): err")
    assert "\n" not in facts[FACT]
    assert len(facts) == 2


def test_kernels_that_were_asked_for_are_not_replaced(wrong: Path) -> None:
    """``blocks=cuda`` in so many words; the sentence says what to leave out."""
    choice = find_kernel({"blocks": "cuda"}, "blocks", None)
    begins = r"^blocks=cuda asks for kernels of CUDA C\+\+, but block.cu does not comp"
    with pytest.raises(BuildFailed, match=begins) as caught:
        choice.run(lambda: ask_compiler(wrong, "block", ()), lambda: "Triton's")

    assert str(caught.value).endswith(
        "; leave it out of --mlperf-engine-options, and Triton's kernels run"
    )


def test_a_launch_that_fails_is_not_hidden() -> None:
    """A kernel that was loaded is what the build's facts name."""

    def by_cuda() -> str:
        answer = (700,)
        cuda_source.check("cuLaunchKernel", answer, cuda_source.CudaLaunchError)
        return "CUDA's"

    choice = KernelChoice("blocks")
    with pytest.raises(
        cuda_source.CudaLaunchError, match="cuLaunchKernel returned 700"
    ):
        choice.run(by_cuda, lambda: "Triton's")

    assert choice.is_cuda


@needs_torch
def test_narrow_blocks_fall_back_to_what_they_were_joined_of(
    tmp_path: Path, wrong: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A net whose sources do not compile has the answers of the net that is not joined;
    its build ended with the compiler's error.
    """
    pytest.importorskip("onnx")
    import torch

    from pytest_mlperf.benchmarks.standins import graphs
    from pytest_mlperf.engines.torch import fuse
    from pytest_mlperf.engines.torch import onnx_graph
    from pytest_mlperf.engines.torch.conv import block
    from pytest_mlperf.engines.torch.conv import fp8
    from pytest_mlperf.engines.torch.conv import joined
    from pytest_mlperf.engines.torch.conv import tail
    from tests.support import plain_fp8

    class OnDevice(torch.Tensor):  # type: ignore[misc]
        is_cuda = True

    onnx = tmp_path / "resnet.onnx"
    graphs.write_resnet(onnx, (2, 3), 32)
    read = onnx_graph.read_graph(onnx, ("pictures",), ("scores",))
    fused = fuse.fuse_convolutions(read)
    scales = dict.fromkeys(fp8.observe_activations(fused).outputs, 3.0)
    low = tail.join_tails(fp8.quantize(fused, scales))
    inside = [n for n in low.nodes if n.kind in plain_fp8.OPERATORS]
    apart = onnx_graph.OnnxGraph(inside, low.constants, ("pooled",), inside[-1].outputs)
    monkeypatch.setattr(cuda_source, "load_kernel", ask_compiler)
    monkeypatch.setattr(block, "KERNEL", replace(block.KERNEL, source=wrong))
    choice, facts = find_kernel({}, "blocks", None), dict[str, str]()
    choice.note(facts, FACT)
    table = dict(plain_fp8.OPERATORS)
    table |= joined.make_operators(table, choice)
    pooled = (torch.randn(2, 8, 8, 64) * 40).relu().to(torch.float8_e4m3fn)
    given = pooled.permute(0, 3, 1, 2)
    answers = [
        onnx_graph.Program(graph, "cpu", torch.float32, table).run({"pooled": x})[0]
        for graph, x in (
            (apart, given),
            (joined.join(apart), given.as_subclass(OnDevice)),
        )
    ]

    assert torch.equal(*(answer.view(torch.uint8) for answer in answers))
    assert facts[FACT].startswith("Triton, block.cu does not compile: block.cu(1): err")


@needs_torch
def test_a_first_convolution_falls_back_to_triton(
    wrong: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its two kernels run; without a device something stands for them."""
    import torch

    from pytest_mlperf.engines.torch.conv import stem
    from pytest_mlperf.engines.torch.conv import stem_pool

    monkeypatch.setattr(cuda_source, "load_kernel", ask_compiler)
    monkeypatch.setattr(stem_pool, "SOURCE", wrong)
    monkeypatch.setattr(stem, "run_stem", lambda x, *_: x)
    monkeypatch.setattr(stem, "run_max_pool", lambda x, *_: x + 1)
    pictures = torch.zeros((1, 32, 32, 3), dtype=torch.int8)
    weight = torch.zeros((32, 4, 64), dtype=torch.int8)
    choice = find_kernel({}, "stem", None)
    run = stem.make_operators(choice)["Int8StemPool"]
    out = run({"unit": 1.0}, pictures, weight, torch.ones(32), torch.zeros(32))

    assert torch.equal(out, pictures + 1)
    assert choice.describe().startswith("Triton, block.cu does not compile")
