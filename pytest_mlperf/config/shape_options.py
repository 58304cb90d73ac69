"""Shapes of a TensorRT optimization profile, as options have them: MIN, OPT and MAX."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_mlperf.config.option_types import parse_whole

Shape = tuple[int, ...]
EVERY = ""
"""Names all inputs."""
KINDS = ("min_shapes", "opt_shapes", "max_shapes")


def parse_shapes(text: str) -> dict[str, Shape]:
    """Read ``1x384``, for every input, or ``input_ids:1x384+input_mask:1x384``.

    The first size is the batch. ``input_ids=1,384`` of NVIDIA's scripts means the same.
    Raises ``ValueError``.
    """
    shapes: dict[str, Shape] = {}
    try:
        for part in text.replace("+", " ").split():
            # A name may have colons: TensorFlow's outputs end with ":0".
            name, _, sizes = part.replace("=", ":").rpartition(":")
            found = sizes.replace(",", "x").split("x")
            shapes[name] = tuple(map(parse_whole, found))
    except ValueError:
        shapes = {}
    if not shapes or (EVERY in shapes and len(shapes) > 1):
        raise ValueError(
            "a shape with its batch for every input, such as 1x384, or one for each: "
            "input_ids:1x384+input_mask:1x384"
        )
    return shapes


def format_shapes(shapes: Mapping[str, Shape], separator: str = "+") -> str:
    """Return shapes as ``parse_shapes`` and, with commas, ONNX Runtime read them."""
    texts = (f"{name}:{'x'.join(map(str, one))}" for name, one in shapes.items())
    return separator.join(texts)
