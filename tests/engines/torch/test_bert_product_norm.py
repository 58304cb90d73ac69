"""Products with their LayerNorms in CUDA C++: what compiles, and whom it fits.

On a Hopper GPU ``tests/gpu/test_torch.py`` compares the numbers with fp64.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_mlperf.engines.torch import cuda_source
from pytest_mlperf.engines.torch.bert import product_norm
from pytest_mlperf.engines.torch.bert.norms import name_norms

MISSING = cuda_source.find_missing()
FITTING = product_norm.NormShape(1024, 4096, True, "float16", (9, 0))


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
@pytest.mark.parametrize("depth", [1024, 4096])
def test_the_kernel_compiles_without_a_device(depth: int) -> None:
    """NVRTC takes the source, and has nothing to say of it."""
    defines = product_norm.make_defines(depth)
    binary, log = cuda_source.compile_source(product_norm.SOURCE, defines, "sm_90a")

    assert binary[:4] == b"\x7fELF"
    assert not log


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fp8": False}, "as the products are not fp8"),
        ({"capability": (8, 9)}, "compute capability 8.9 instead of 9.0"),
        ({"capability": (10, 0)}, "compute capability 10.0 instead of 9.0"),
        ({"dtype": "bfloat16"}, "hidden states in bfloat16 instead of float16"),
        ({"hidden_size": 768}, "a hidden size of 768 instead of 1,024"),
        ({"intermediate_size": 4160}, "an intermediate size of 4,160 instead of"),
        ({"intermediate_size": 896}, "an intermediate size of 896 instead of"),
    ],
)
def test_what_does_not_fit_is_said(change: dict[str, Any], reason: str) -> None:
    """Other encoders and other devices are Triton's, and the fact says why."""
    misfit = replace(FITTING, **change).find_misfit() or ""

    assert misfit.startswith(reason)
    assert name_norms(misfit, {}) == f"Triton, {misfit}"


def test_what_fits_needs_a_compiler_alone() -> None:
    """Without NVRTC that is the reason."""
    assert FITTING.find_misfit() == cuda_source.find_missing()


def test_triton_may_be_asked_for() -> None:
    """Whatever the encoder: nothing is asked of the device."""
    kernels, reason = product_norm.choose_joined_norms(FITTING, {}, {}, asked="triton")

    assert kernels is None
    assert name_norms(reason, {}) == "Triton, as norm_kernel=triton asks"


@pytest.mark.parametrize(
    ("joined", "words"),
    [
        ({512: True, 1024: True}, "CUDA C++, with the product before it"),
        ({512: False, 1024: False}, "Triton, which is faster in every pass"),
        (
            {512: False, 1024: True, 1536: True},
            (
                "CUDA C++, with the product before it, in 2 of 3 sizes of a pass, from "
                "1,024 tokens on; Triton in the others"
            ),
        ),
    ],
)
def test_the_fact_says_in_which_passes_which_runs(
    joined: dict[int, bool], words: str
) -> None:
    """Which is faster was timed for each size of a pass."""
    assert name_norms("", joined) == words


def test_a_program_fits_into_shared_memory() -> None:
    """A multiprocessor of Hopper gives one program 227 KiB."""
    assert product_norm.count_shared_bytes() <= 227 << 10


def test_a_product_has_steps_for_what_happens_in_between() -> None:
    """The second group starts three steps late, the launch's number comes with a
    stage, and the residual two steps before the end.
    """
    assert product_norm.LEAST_STEPS > product_norm.STAGES
    assert product_norm.LEAST_STEPS * product_norm.STEP <= product_norm.WIDTH


@pytest.mark.parametrize(("programs", "streams"), [(132, 18), (16, 2), (8, 1), (4, 0)])
def test_waiting_programs_leave_room_for_others(programs: int, streams: int) -> None:
    """Each stream may have a team of eight that lacks one: a MIG slice has few."""
    assert product_norm.count_streams(programs) == streams
    assert 7 * streams < programs
