"""Write dlrm's official checkpoint in the layout of the workload: needs PyTorch.

python -m pytest_mlperf.benchmarks.recommender.convert CHECKPOINT FOLDER [fp16|fp32]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.benchmarks.files import require_package
from pytest_mlperf.benchmarks.recommender import graphs

DTYPES = {"fp16": np.float16, "fp32": np.float32}
PARTS = {"bot_l": "bottom", "top_l": "top"}
"""An MLP's name in facebookresearch/dlrm -> in the graph."""
TABLE = "emb_l.{}.weight"
CHUNK = 1 << 20
"""Rows that are converted at a time."""


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Return tensors by name, mapped: 97 GB are not read at once.

    Raises ``ValueError`` for a file that is no checkpoint with a ``state_dict``.
    """
    consequence = "its checkpoint cannot be read"
    require_package("torch", consequence, "pip install 'pytest-mlperf[torch]'")
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return dict(loaded["state_dict"])
    except Exception as error:  # whatever a damaged file raises
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}: {error}); "
            "it should be tb00_40M.pt of MLCommons' dlrm. Download it again."
        ) from error


def name_weights(state: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Return the MLPs' weights under the graph's names, [in, out]."""
    weights: dict[str, NDArray[np.float32]] = {}
    for theirs, ours in PARTS.items():
        # Layers are every second module: activations lie between them.
        layers = sorted(
            int(name.split(".")[1])
            for name in state
            if name.startswith(f"{theirs}.") and name.endswith(".weight")
        )
        for n, layer in enumerate(layers):
            weight, bias = (
                state[f"{theirs}.{layer}.{kind}"].float().numpy()
                for kind in ("weight", "bias")
            )
            weights[f"{ours}.{n}.weight"] = np.ascontiguousarray(weight.T)
            weights[f"{ours}.{n}.bias"] = bias
    if not any(name.startswith("bottom.") for name in weights):
        raise ValueError(
            "the checkpoint has no weights bot_l.N.weight, but should have those of "
            "facebookresearch/dlrm; dlrm-v2's torchsnapshot is not converted here"
        )
    return weights


def write_tables(state: Mapping[str, Any], path: Path, dtype: Any) -> int:
    """Write all tables one after another; return how many there are."""
    count = sum(name.startswith("emb_l.") for name in state)
    tables = [state[TABLE.format(n)] for n in range(count)]
    shape = sum(map(len, tables)), tables[0].shape[1]
    rows = np.lib.format.open_memmap(path, "w+", dtype=dtype, shape=shape)
    start = 0
    for table in tables:
        for first in range(0, len(table), CHUNK):
            part = table[first : first + CHUNK]
            rows[start : start + len(part)] = part.float().numpy()
            start += len(part)
    rows.flush()
    return count


def convert(checkpoint: Path, folder: Path, precision: str) -> None:
    """Write dense.onnx and tables.npy. Raises ``ValueError``."""
    if precision not in DTYPES:
        legal = " or ".join(DTYPES)
        raise ValueError(f"the rows' type is {precision!r}, but should be {legal}")
    state = read_checkpoint(checkpoint)
    weights = name_weights(state)
    folder.mkdir(parents=True, exist_ok=True)
    making = folder / "making-tables.npy"
    tables = write_tables(state, making, DTYPES[precision])
    making.replace(folder / "tables.npy")
    graphs.write_recommender(folder / "dense.onnx", weights, tables)


def main(arguments: list[str]) -> int:
    """Convert; returns the exit status."""
    if len(arguments) not in (2, 3):
        sys.stderr.write(f"usage:{(__doc__ or '').partition('python -m')[2]}")
        return 2
    precision = arguments[2] if len(arguments) == 3 else "fp16"
    folder = Path(arguments[1])
    try:
        convert(Path(arguments[0]), folder, precision)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{folder}: dense.onnx, tables.npy\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
