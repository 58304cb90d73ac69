"""Attention of packed sequences as a kernel of CUDA C++ for Hopper.

Where it does not fit or cannot be compiled, ``kernels.attend`` runs instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pytest_mlperf.engines.torch import cuda_source

SOURCE = Path(__file__).with_name("attention.cu")
HEAD_SIZE = 64
GROUPS = 4
"""Groups of four warps that compute."""
LEAST_TOKENS = 1024
"""Of a pass: in a smaller one Triton's kernel has more programs. A whole pass of this
many is 3 % faster with this one on an H200, and one of 512 tokens 3 % slower."""
TILE, TILES = 64, 9
"""Tokens of a tile, and tiles that fit into shared memory: a sequence of more than
``TILE * TILES`` tokens does not."""
PAIRS = 16
"""Of a sequence and a head, that a program remembers: more than there are tiles."""
_TILE_BYTES = 3 * TILE * HEAD_SIZE * 2
TYPES = (
    cuda_source.STRUCT, cuda_source.POINTER, cuda_source.POINTER, cuda_source.POINTER,
    cuda_source.POINTER, cuda_source.INTEGER, cuda_source.FLOAT,
)  # fmt: skip
"""The kernel's parameters."""


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """What decides whether the kernel takes an encoder on a device."""

    head_size: int
    positions: int
    dtype: str
    """Of queries, keys and values, as PyTorch names it."""
    capability: tuple[int, int]

    def find_misfit(self) -> str | None:
        """Return why the kernel does not take it, or None."""
        major, minor = self.capability
        if self.capability != cuda_source.HOPPER:
            return f"compute capability {major}.{minor} instead of 9.0"
        if self.dtype != "float16":
            return f"queries, keys and values in {self.dtype} instead of float16"
        if self.head_size != HEAD_SIZE:
            return f"heads of {self.head_size} numbers instead of {HEAD_SIZE}"
        if self.positions > TILE * TILES:
            return f"{self.positions} positions instead of at most {TILE * TILES}"
        return cuda_source.find_missing()


def choose_attention(
    qkv: Any, heads: int, positions: int, *, fp8: bool, asked: str = "cuda"
) -> tuple[PackedAttention | None, str]:
    """Return the kernel for buffers, or None where Triton's runs; and why it does.

    ``qkv`` [tokens, 3 * heads * head size]; ``asked``: the option attention_kernel.
    """
    if asked == "triton":
        return None, "as attention_kernel=triton asks"
    import torch

    shape = AttentionShape(
        qkv.shape[1] // (3 * heads),
        positions,
        str(qkv.dtype).removeprefix("torch."),
        torch.cuda.get_device_capability(qkv.device),
    )
    misfit = shape.find_misfit()
    if misfit is not None:
        return None, misfit
    return try_kernel(partial(make_attention, qkv, heads, fp8=fp8))


def try_kernel(
    make: Callable[[], PackedAttention],
) -> tuple[PackedAttention | None, str]:
    """Return what is made, or None and why NVRTC or the driver refused it."""
    try:
        return make(), ""
    except cuda_source.CudaSourceError as error:
        return None, cuda_source.first_line(error)


def name_kernels(reason: str) -> str:
    """Return which kernels run, for a fact; ``reason``: why only Triton's, or empty."""
    if reason:
        return f"Triton, {reason}"
    return f"CUDA C++ from {LEAST_TOKENS:,} tokens a pass, Triton below"


def make_defines(heads: int, *, fp8: bool) -> dict[str, int]:
    """Return what the source is compiled with."""
    return {
        "HEADS": heads,
        "GROUPS": GROUPS,
        "TILES": TILES,
        "PAIRS": PAIRS,
        "FP8": int(fp8),
    }


def count_shared_bytes() -> int:
    """Return the bytes of a program: alignment, tiles, two barriers a tile, pairs."""
    return 1024 + TILES * (_TILE_BYTES + 16) + 16 + 16 * PAIRS


@dataclass(slots=True)
class PackedAttention:
    """The kernel for one stream's buffers."""

    kernel: cuda_source.CudaKernel
    qkv: Any
    """The tensor map of what it reads."""
    queue: Any
    """int32 [2]: pairs that were given out, and programs that ended; 0 in between."""
    programs: int

    def launch(
        self, out: Any, scale: Any, sequences: Any, capacity: int, softmax_scale: float
    ) -> None:
        """Fill ``out`` [tokens, heads * 64], fp16, or fp8 multiplied by ``scale``.

        ``sequences`` int32 [capacity, 2] as ``packing.map_sequences`` returns them;
        ``softmax_scale`` includes log2(e).
        """
        self.kernel.launch(
            (self.programs, 1, 1), 128 * (GROUPS + 1),
            self.qkv, out, scale, sequences, self.queue, capacity, softmax_scale,
        )  # fmt: skip


def make_attention(qkv: Any, heads: int, *, fp8: bool) -> PackedAttention:
    """Return the kernel that reads ``qkv``, fp16 [tokens, 3 * heads * 64]."""
    import torch

    device = qkv.device.index or 0
    kernel = cuda_source.load_kernel(
        SOURCE,
        "attend",
        tuple(make_defines(heads, fp8=fp8).items()),
        TYPES,
        count_shared_bytes(),
        device,
    )
    count = torch.cuda.get_device_properties(device).multi_processor_count
    queue = torch.zeros(2, dtype=torch.int32, device=qkv.device)
    return PackedAttention(kernel, _describe(qkv), queue, count)


def _describe(qkv: Any) -> Any:
    """Return the tensor map of ``qkv`` as [3, first token, ``TILE``, heads * 64], its
    last axis first: one fetch takes 64 numbers of a tile's tokens, of all three.

    A tile's tokens and its first one are two axes of the same stride, so a fetch that
    begins ``TILE - n`` tokens into the tile, and as much earlier, gets ``n`` tokens and
    zeros. Earlier than the first token is there too: the map begins a tile before
    ``qkv``, where nothing is read.
    """
    rows, width = qkv.shape
    size, step = width // 3, qkv.element_size()
    return cuda_source.describe_tensor(
        qkv.data_ptr() - TILE * width * step,
        "FLOAT16",
        [size, TILE, rows + 1, 3],
        [width * step, width * step, size * step],
        [HEAD_SIZE, TILE, 1, 3],
    )
