"""A server's side of the protocol's tensors: requests are read, answers written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.served_model import ANY
from pytest_mlperf.api.served_model import ServedModel
from pytest_mlperf.api.served_model import TensorForm
from pytest_mlperf.services.kserve.tensors import DATATYPES
from pytest_mlperf.services.kserve.tensors import TYPES

Wanted = list[tuple[str, bool]]
"""Output -> whether its bytes are to come, or numbers as text."""


class BadRequest(ValueError):
    """A request that is none; the text says what was found and what should be."""


def read_request(
    body: bytes, head_size: int | None, model: ServedModel
) -> tuple[Batch, Wanted]:
    """Return a request's arrays, in the model's order, and the outputs it wants.

    ``head_size``: bytes of the JSON head; None: the body is JSON alone. Raises
    ``BadRequest``.
    """
    size = len(body) if head_size is None else head_size
    try:
        document = json.loads(body[:size])
        given = {str(one["name"]): one for one in document["inputs"]}
        wanted = read_wanted(document, model)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise BadRequest(
            "no inference request, but should be a JSON object with inputs, each with "
            "name, datatype and shape"
        ) from None
    if set(given) != set(model.inputs):
        raise BadRequest(
            f"inputs {', '.join(given) or '(none)'}, but the model {model.name!r} "
            f"takes {', '.join(model.inputs)}"
        )
    if unknown := [name for name, _ in wanted if name not in model.outputs]:
        raise BadRequest(
            f"output {unknown[0]!r}, but the model {model.name!r} has "
            f"{', '.join(model.outputs)}"
        )
    found, at = {}, size
    for name, one in given.items():
        found[name], at = read_tensor(one, model.inputs[name], body, at)
    if at != len(body):
        raise BadRequest(
            f"{len(body) - size:,} bytes behind the head, but its inputs have "
            f"{at - size:,}"
        )
    batch = {name: found[name] for name in model.inputs}
    check_rows(batch, model)
    return batch, wanted


def read_wanted(document: Mapping[str, Any], model: ServedModel) -> Wanted:
    """Return the outputs that a request asks for; all where it names none."""
    every = bool(document.get("parameters", {}).get("binary_data_output", False))
    asked = document.get("outputs")
    if not asked:
        return [(name, every) for name in model.outputs]
    return [
        (str(one["name"]), bool(one.get("parameters", {}).get("binary_data", every)))
        for one in asked
    ]


def read_tensor(
    given: Mapping[str, Any], form: TensorForm, body: bytes, at: int
) -> tuple[Array, int]:
    """Return one input, and where the next one's bytes begin."""
    name, datatype = given["name"], str(given.get("datatype"))
    if TYPES.get(datatype) != form.dtype:
        need = DATATYPES[form.dtype.name]
        raise BadRequest(f"{datatype} for {name}, but the model takes {need}")
    try:
        shape = [int(size) for size in given["shape"]]
        size = dict(given.get("parameters", {})).get("binary_data_size")
        values = None if size is not None else np.asarray(given["data"], form.dtype)
    except (ValueError, TypeError, KeyError, OverflowError):
        raise BadRequest(
            f"the input {name} has no array, but should have a shape and "
            "binary_data_size, or data; shared memory is not served"
        ) from None
    fits = len(shape) == len(form.shape) and all(
        have > 0 and own in (ANY, have)
        for own, have in zip(form.shape, shape, strict=True)
    )
    if not fits:
        raise BadRequest(f"{shape} for {name}, but the model takes {[*form.shape]}")
    if values is not None:
        if values.size != np.prod(shape):
            raise BadRequest(f"{values.size} numbers for {name} of shape {shape}")
        return values.reshape(shape), at
    need_bytes = int(np.prod(shape, dtype=np.int64)) * form.dtype.itemsize
    if size != need_bytes or at + need_bytes > len(body):
        raise BadRequest(
            f"{size} bytes for {name}, but {datatype} {shape} has {need_bytes:,}"
        )
    flat = np.frombuffer(body, form.dtype, need_bytes // form.dtype.itemsize, at)
    return flat.reshape(shape), at + need_bytes


def check_rows(batch: Batch, model: ServedModel) -> None:
    """Raise ``BadRequest`` for inputs of unequal rows, and for too many."""
    rows = {name: len(array) for name, array in batch.items()}
    if len(set(rows.values())) > 1:
        raise BadRequest(f"rows {rows}, but all inputs should have as many")
    if (most := max(rows.values())) > model.max_batch:
        raise BadRequest(
            f"{most} rows, but the model takes up to {model.max_batch} "
            "(max_batch_size); ask for fewer, or serve with a larger --batch"
        )


def format_answer(
    model: ServedModel, outputs: Sequence[Array], wanted: Wanted
) -> tuple[bytes, int]:
    """Return an answer's body, and the bytes of its JSON head."""
    arrays = dict(zip(model.outputs, outputs, strict=True))
    described, data = [], []
    for name, is_binary in wanted:
        array = arrays[name]
        one: dict[str, Any] = {
            "name": name,
            "datatype": DATATYPES[array.dtype.name],
            "shape": array.shape,
        }
        if is_binary:
            one["parameters"] = {"binary_data_size": array.nbytes}
            data.append(array.tobytes())
        else:
            one["data"] = array.ravel().tolist()
        described.append(one)
    document = {"model_name": model.name, "model_version": "1", "outputs": described}
    head = json.dumps(document, separators=(",", ":")).encode()
    return b"".join([head, *data]), len(head)
