"""The attention of CUDA C++: what it compiles to without a device, and whom it fits.

On a Hopper GPU ``tests/gpu/test_torch.py`` compares its numbers with PyTorch's.
"""

from __future__ import annotations

import pytest

from pytest_mlperf.engines.torch import cuda_source
from pytest_mlperf.engines.torch.bert import attention


@pytest.mark.skipif(
    cuda_source.find_missing() is not None, reason=str(cuda_source.find_missing())
)
@pytest.mark.parametrize("fp8", [True, False])
def test_the_kernel_compiles_without_a_device(fp8: bool) -> None:
    """NVRTC takes the source, and has nothing to say of it."""
    pytest.importorskip("cuda.bindings.nvrtc")
    defines = attention.make_defines(16, fp8=fp8)
    try:
        binary, log = cuda_source.compile_source(attention.SOURCE, defines, "sm_90a")
    except RuntimeError as error:  # cuda-bindings without the library itself
        pytest.skip(str(error))

    assert binary[:4] == b"\x7fELF"
    assert not log
    # The log was written in place: into Python's only " ", when it was of one byte.
    assert bytes([32])[0] == 32


@pytest.mark.parametrize(
    ("head_size", "positions", "word"),
    [(64, 512, None), (80, 512, "80 numbers"), (64, 577, "577 positions")],
)
def test_what_does_not_fit_is_said(
    head_size: int, positions: int, word: str | None
) -> None:
    """Heads of another size and sequences beyond the tiles are Triton's."""
    found = attention.find_misfit(head_size, positions)

    assert (word in found if found else found) if word else found is None


def test_a_program_remembers_more_pairs_than_it_has_tiles() -> None:
    """A pair takes a tile at least, so none that is in work is overwritten."""
    assert attention.PAIRS > attention.TILES + 1


def test_a_program_fits_into_shared_memory() -> None:
    """A multiprocessor of Hopper gives one program 227 KiB."""
    assert attention.count_shared_bytes() <= 227 << 10
