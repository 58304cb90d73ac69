"""A product, its residual and the LayerNorm behind it as one kernel of CUDA C++.

For an fp8 encoder with a hidden size of 1,024 on Hopper. Where it does not fit, cannot
be compiled or is slower, cuBLASLt and ``kernels.normalize`` run instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlperf.engines.torch import cuda_source

SOURCE = Path(__file__).with_name("product_norm.cu")
WIDTH, PARTS = 1024, 4
"""Columns of the result, and programs that share them."""
COLUMNS, ROWS = WIDTH // PARTS, 128
"""Of a program: columns of the result, and tokens at a time."""
CLUSTER = 2
"""Programs of the same columns: each fetches half of the weights for both."""
STEP, STAGES = 128, 4
"""Bytes of a row that are fetched at a time, and how many such steps ahead."""
LEAST_STEPS = 8
"""Of a product: the kernel fetches the residual, and one group lags, within them."""
THREADS = 384
_BLOCK = 32
"""Rows of weights that the matrix unit's order permutes."""
TYPES = (
    cuda_source.STRUCT, cuda_source.STRUCT, *[cuda_source.POINTER] * 10,
    cuda_source.INTEGER, cuda_source.FLOAT,
)  # fmt: skip
"""The kernel's parameters."""


@dataclass(frozen=True, slots=True)
class NormShape:
    """What decides whether the kernel takes an encoder on a device."""

    hidden_size: int
    intermediate_size: int
    fp8: bool
    dtype: str
    """Of what is not fp8, as PyTorch names it."""
    capability: tuple[int, int]

    def find_misfit(self) -> str | None:
        """Return why the kernel does not take it, or None."""
        major, minor = self.capability
        if not self.fp8:
            return "as the products are not fp8"
        if self.capability != cuda_source.HOPPER:
            return f"compute capability {major}.{minor} instead of 9.0"
        if self.dtype != "float16":
            return f"hidden states in {self.dtype} instead of float16"
        if self.hidden_size != WIDTH:
            return f"a hidden size of {self.hidden_size:,} instead of {WIDTH:,}"
        least = LEAST_STEPS * STEP
        if self.intermediate_size % STEP or self.intermediate_size < least:
            return (
                f"an intermediate size of {self.intermediate_size:,} instead of a "
                f"multiple of {STEP} from {least:,} on"
            )
        return cuda_source.find_missing()


def make_defines(depth: int) -> dict[str, int]:
    """Return what the source is compiled with."""
    return {"DEPTH": depth, "STAGES": STAGES}


def count_shared_bytes() -> int:
    """Return the bytes of a program: alignment, stages, parameters, barriers."""
    return 1024 + STAGES * (ROWS + COLUMNS) * STEP + 3 * 4 * COLUMNS + 16 * STAGES + 16


@dataclass(frozen=True, slots=True)
class JoinedNorms:
    """The kernels for one stream's buffers, by the name of the product."""

    kernels: Mapping[str, cuda_source.CudaKernel]
    inputs: Mapping[str, Any]
    """Tensor maps of what the products read."""
    weights: Mapping[str, Any]
    """Tensor maps of the weights, by the names that the encoder's tensors have."""
    programs: int
    sums: Any
    """int32 [tiles, parts, tokens, 4]: a row's sum and squares, each with the number of
    the launch that wrote it."""
    state: Any
    """int32 [2]: the number of the next launch; 0 in between."""

    def launch(
        self, layer: int, name: str, scales: Any, bias: Any, norm: Any, hidden: Any,
        low: Any, low_scale: Any, eps: float,
    ) -> None:  # fmt: skip
        """Set ``hidden`` to LayerNorm(x @ weight.T + bias + hidden), and ``low`` to the
        same in fp8, multiplied by ``low_scale``.

        ``scales`` and ``norm``: those of x and of the weight; LayerNorm's weight and
        bias.
        """
        self.kernels[name].launch(
            (self.programs, 1, 1), THREADS,
            self.inputs[name], self.weights[f"{layer}.{name}.weight"], *scales, bias,
            *norm, hidden, low, low_scale, self.sums, self.state, len(hidden), eps,
        )  # fmt: skip


def choose_joined_norms(
    shape: NormShape,
    inputs: Mapping[str, Any],
    tensors: Mapping[str, Any],
    *,
    asked: str = "cuda",
    streams: int = 1,
) -> tuple[JoinedNorms | None, str]:
    """Return the kernels, or None where LayerNorms run apart; and why they do.

    ``inputs``: the product's name -> the buffer that it reads; ``tensors``: those of
    the encoder; ``asked``: the option norm_kernel; ``streams``: that may launch them at
    the same time, this one among them.
    """
    if asked == "triton":
        return None, "as norm_kernel=triton asks"
    misfit = shape.find_misfit()
    if misfit is not None:
        return None, misfit
    try:
        norms = make_joined_norms(inputs, tensors)
    except cuda_source.CudaSourceError as error:
        return None, cuda_source.first_line(error)
    most = count_streams(norms.programs)
    if streams > most:
        return None, f"{streams} streams instead of at most {most}"
    return norms, ""


def count_streams(programs: int) -> int:
    """Return how many streams may launch the kernel at a time on a device.

    Each may have one team that waits for its last program; another program must run.
    """
    return (programs - 1) // (CLUSTER * PARTS - 1)


def make_joined_norms(
    inputs: Mapping[str, Any], tensors: Mapping[str, Any]
) -> JoinedNorms:
    """Return the kernels for buffers of fp8 numbers and an encoder's fp8 weights."""
    import torch

    rows, device = next((len(x), x.device) for x in inputs.values())
    kernels = {
        name: cuda_source.load_kernel(
            SOURCE,
            "multiply_and_normalize",
            tuple(make_defines(x.shape[1]).items()),
            TYPES,
            count_shared_bytes(),
            device.index or 0,
        )
        for name, x in inputs.items()
    }
    weights = {
        key: describe_weight(tensor)
        for key, tensor in tensors.items()
        if key.endswith(tuple(f".{name}.weight" for name in inputs))
    }
    clusters = min(count_clusters(kernel) for kernel in kernels.values())
    tiles = -(-rows // (CLUSTER * ROWS)) * CLUSTER
    return JoinedNorms(
        kernels,
        {name: describe_rows(x) for name, x in inputs.items()},
        weights,
        clusters * CLUSTER // PARTS * PARTS,
        torch.zeros(tiles, PARTS, ROWS, 4, dtype=torch.int32, device=device),
        torch.tensor([1, 0], dtype=torch.int32, device=device),
    )


def count_clusters(kernel: cuda_source.CudaKernel) -> int:
    """Return how many clusters the device runs at a time."""
    from cuda.bindings import driver

    cluster = driver.CUlaunchAttribute()
    cluster.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
    size = cluster.value.clusterDim
    size.x, size.y, size.z = CLUSTER, 1, 1
    config = driver.CUlaunchConfig()
    config.gridDimX, config.gridDimY, config.gridDimZ = CLUSTER, 1, 1
    config.blockDimX, config.blockDimY, config.blockDimZ = THREADS, 1, 1
    config.sharedMemBytes = kernel.shared_bytes
    config.attrs, config.numAttrs = [cluster], 1
    (count,) = cuda_source.check(
        "cuOccupancyMaxActiveClusters",
        driver.cuOccupancyMaxActiveClusters(kernel.function, config),
    )
    return int(count)


def describe_rows(x: Any) -> Any:
    """Return the tensor map of fp8 ``x`` [tokens, depth]: ROWS tokens a fetch."""
    rows, depth = x.shape
    return cuda_source.describe_tensor(
        x.data_ptr(), "UINT8", [depth, rows], [depth], [STEP, ROWS]
    )


def describe_weight(weight: Any) -> Any:
    """Return the tensor map of fp8 ``weight`` [WIDTH, depth] in the unit's order.

    Rows are [block, quarter, pair, 2] in memory; a fetch brings half a program's as
    [block, pair, quarter, 2].
    """
    rows, depth = weight.shape
    return cuda_source.describe_tensor(
        weight.data_ptr(),
        "UINT8",
        [depth, 2, 4, 4, rows // _BLOCK],
        [depth, 8 * depth, 2 * depth, _BLOCK * depth],
        [STEP, 2, 4, 4, COLUMNS // CLUSTER // _BLOCK],
    )
