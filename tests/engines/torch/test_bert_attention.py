"""The attention of CUDA C++: what it compiles to without a device, and whom it fits.

On a Hopper GPU ``tests/gpu/test_torch.py`` compares its numbers with PyTorch's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.engines.torch import cuda_source
from pytest_mlperf.engines.torch.bert import attention

MISSING = cuda_source.find_missing()
needs_nvrtc = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


@needs_nvrtc
@pytest.mark.parametrize("fp8", [True, False])
def test_the_kernel_compiles_without_a_device(fp8: bool) -> None:
    """NVRTC takes the source, and has nothing to say of it."""
    defines = attention.make_defines(16, fp8=fp8)
    binary, log = cuda_source.compile_source(attention.SOURCE, defines, "sm_90a")

    assert binary[:4] == b"\x7fELF"
    assert not log
    # The log was written in place: into Python's only " ", when it was of one byte.
    assert bytes([32])[0] == 32


FITTING = attention.AttentionShape(64, 576, "float16", (9, 0))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"head_size": 80}, "heads of 80 numbers instead of 64"),
        ({"positions": 577}, "577 positions instead of at most 576"),
        (
            {"dtype": "bfloat16"},
            "queries, keys and values in bfloat16 instead of",
        ),
        ({"dtype": "float8_e4m3fn"}, "queries, keys and values in float8_e4m3fn"),
        ({"capability": (8, 9)}, "compute capability 8.9 instead of 9.0"),
        ({"capability": (10, 0)}, "compute capability 10.0 instead of 9.0"),
    ],
)
def test_what_does_not_fit_is_said(change: dict[str, Any], reason: str) -> None:
    """Other encoders and other devices are Triton's, and the fact says why."""
    misfit = replace(FITTING, **change).find_misfit() or ""

    assert misfit.startswith(reason)
    assert attention.name_kernels(misfit) == f"Triton, {misfit}"


def test_what_fits_needs_a_compiler_alone() -> None:
    """Without NVRTC that is the reason."""
    assert FITTING.find_misfit() == cuda_source.find_missing()


def test_triton_may_be_asked_for() -> None:
    """Whatever the device: nothing is asked of it."""
    kernel, reason = attention.choose_attention(
        None, 16, 512, fp8=False, asked="triton"
    )

    assert kernel is None
    assert attention.name_kernels(reason) == "Triton, as attention_kernel=triton asks"


def test_both_kernels_are_named_where_both_run() -> None:
    """A pass of few tokens is Triton's on every device."""
    assert attention.name_kernels("") == (
        "CUDA C++ from 1,024 tokens a pass, Triton below"
    )


@needs_nvrtc
def test_a_source_that_does_not_compile_is_a_reason(tmp_path: Path) -> None:
    """Triton's kernel runs then; the compiler's first line is in the fact."""
    wrong = tmp_path / "attention.cu"
    wrong.write_text('extern "C" __global__ void attend() { no_such_name(); }\n')

    def make() -> attention.PackedAttention:
        cuda_source.compile_source(wrong, {}, "sm_90a")
        raise AssertionError("it compiled")

    kernel, reason = attention.try_kernel(make)

    assert kernel is None
    assert reason.startswith("attention.cu does not compile: attention.cu(1): error")
    assert "\n" not in reason


def test_a_driver_that_refuses_is_a_reason() -> None:
    """An error that is none of the compiler's or the driver's is not hidden."""

    def refuse() -> attention.PackedAttention:
        cuda_source.check("cuModuleLoadData", (209,))
        raise AssertionError("it did not")

    def fail() -> attention.PackedAttention:
        raise KeyError("heads")

    assert attention.try_kernel(refuse) == (
        None,
        "cuModuleLoadData returned 209, but should return 0",
    )
    with pytest.raises(KeyError):
        attention.try_kernel(fail)


def test_a_program_remembers_more_pairs_than_it_has_tiles() -> None:
    """A pair takes a tile at least, so none that is in work is overwritten."""
    assert attention.PAIRS > attention.TILES + 1


def test_a_program_fits_into_shared_memory() -> None:
    """A multiprocessor of Hopper gives one program 227 KiB."""
    assert attention.count_shared_bytes() <= 227 << 10
