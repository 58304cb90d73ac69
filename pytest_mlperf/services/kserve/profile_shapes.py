"""The optimization profile of a model that TensorRT runs in a Triton server."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pytest_mlperf.api.samples import Array
from pytest_mlperf.config.shape_options import EVERY
from pytest_mlperf.config.shape_options import KINDS
from pytest_mlperf.config.shape_options import Shape
from pytest_mlperf.services.kserve.deployment import Deployment
from pytest_mlperf.services.kserve.model_config import TensorSpec

Shapes = dict[str, Shape]
MOST_LENGTHS = 4


@dataclass(frozen=True, slots=True)
class ProfileShapes:
    """Input -> its smallest, usual and largest shape, with the batch."""

    min_shapes: Shapes
    opt_shapes: Shapes
    max_shapes: Shapes


def choose_shapes(
    deployment: Deployment, inputs: Sequence[TensorSpec], longest: int
) -> ProfileShapes:
    """Return what was asked for; else 1 up to ``max_batch_size``, at its best there.

    ``longest``: what an open size may be, where ``max_seq_length`` says nothing. Raises
    ``ValueError`` for an unknown input, a shape that the model does not have, and a
    profile that is too small for ``max_batch_size``.
    """
    made, top = deployment, deployment.max_seq_length or longest
    largest = {one.name: fill(one, made.max_batch_size, top) for one in inputs}
    smallest = {one.name: fill(one, 1, made.max_seq_length or 1) for one in inputs}
    given = [getattr(made, kind) or {} for kind in KINDS]
    low, usual, high = (
        read_shapes(kind, asked, inputs)
        for kind, asked in zip(KINDS, given, strict=True)
    )
    high = {**largest, **high}
    found = ProfileShapes({**smallest, **low}, {**high, **usual}, high)
    for name, shape in high.items():
        if shape[0] < made.max_batch_size:
            raise ValueError(
                f"max_shapes has batches of {shape[0]} for {name}, but should have at "
                f"least max_batch_size ({made.max_batch_size}), which Triton makes"
            )
        steps = found.min_shapes[name], found.opt_shapes[name], shape
        for less, more in pairwise(steps):
            if any(a > b for a, b in zip(less, more, strict=True)):
                shown = ", ".join(map(show, steps))
                raise ValueError(
                    f"min, opt and max_shapes of {name} are {shown}, but should not "
                    "become smaller"
                )
    return found


def find_longest(lengths: Array | None) -> int:
    """Return the longest sample's length; 1 where samples have none."""
    return 1 if lengths is None else int(lengths.max())


def list_lengths(lengths: Array | None) -> list[int]:
    """Return the sequences' lengths for which CUDA graphs are captured.

    Each is memory and a part of a second, so that of many only the longest counts.
    """
    found = [1] if lengths is None else sorted({*map(int, lengths)})
    return found if len(found) <= MOST_LENGTHS else found[-1:]


def fill(spec: TensorSpec, batch: int, size: int) -> Shape:
    """Return an input's shape with these sizes where the model leaves them open."""
    return (batch, *(size if dim < 0 else dim for dim in spec.dims))


def read_shapes(
    kind: str, asked: Mapping[str, Shape], inputs: Sequence[TensorSpec]
) -> Shapes:
    """Return each input's own shape; raises ``ValueError`` for one that is none."""
    known = {one.name: one for one in inputs}
    found = dict.fromkeys(known, asked[EVERY]) if EVERY in asked else dict(asked)
    for name, shape in found.items():
        if name not in known:
            raise ValueError(
                f"{kind} of {name!r}, but the inputs are {', '.join(known)}"
            )
        dims = known[name].dims
        fits = len(shape) == len(dims) + 1 and all(
            dim in (-1, size) for dim, size in zip(dims, shape[1:], strict=True)
        )
        if not fits:
            raise ValueError(
                f"{kind} of {name} is {show(shape)}, but should be "
                f"{show(('BATCH', *('N' if dim < 0 else dim for dim in dims)))}"
            )
    return found


def show(shape: Sequence[object]) -> str:
    """Return a shape as people write it: ``16x384``."""
    return "x".join(map(str, shape))
