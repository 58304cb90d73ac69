"""What a batch has that an ONNX graph does not take, where a session refuses it."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from pytest_mlperf.api.samples import Batch

NUMPY_NAMES = {"float": "float32", "double": "float64"}
"""The types that onnxruntime calls otherwise than NumPy."""
STRING = "string"
"""NumPy has several types for it."""


def explain_refusal(session: Any, outputs: Sequence[str], batch: Batch) -> str:
    """Return every difference between the dataset's arrays and the graph; empty where
    there is none, and the session had another reason.

    onnxruntime names the first one, and of a type not the input that has it.
    """
    return "; ".join(list_problems(session, outputs, batch))


def list_problems(session: Any, outputs: Sequence[str], batch: Batch) -> Iterator[str]:
    """Yield what does not fit, and what to do about it."""
    inputs = {one.name: one for one in session.get_inputs()}
    for name, one in inputs.items():
        if name not in batch:
            yield f"the dataset has no array {name}, which the graph takes"
            continue
        array = batch[name]
        kind = one.type.removeprefix("tensor(").removesuffix(")")
        kind = NUMPY_NAMES.get(kind, kind)
        pairs = list(zip(array.shape, one.shape, strict=False))
        fixed = [given == asked for given, asked in pairs if isinstance(asked, int)]
        is_shape = array.ndim == len(one.shape) and all(fixed)
        if is_shape and kind in (str(array.dtype), STRING):
            continue
        remedy = "convert it where the dataset is made"
        if pairs and isinstance(pairs[0][1], int) and pairs[0][0] != pairs[0][1]:
            remedy = "export the graph with a dynamic first axis, the batch"
            if pairs[0][1] == 1:
                remedy += ", or say one_by_one=True in its ModelFile"
        yield (
            f"input {name} is {array.dtype} {format_shape(array.shape)}, but the graph "
            f"takes {kind} {format_shape(one.shape)}: {remedy}"
        )
    if others := [name for name in batch if name not in inputs]:
        yield f"the dataset has {', '.join(others)}, which the graph does not take"
    known = [one.name for one in session.get_outputs()]
    for name in outputs:
        if name not in known:
            yield f"the graph has no output {name}, but {', '.join(known)}"


def format_shape(shape: Sequence[object]) -> str:
    """Return ``[3, batch]``; an axis without a size has a name, or None."""
    return f"[{', '.join(map(str, shape))}]"
