"""What a plan is built for: the user's engine options and the optimization profiles."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from pytest_mlperf.config.named_option import list_help
from pytest_mlperf.config.named_option import named_option
from pytest_mlperf.config.named_option import read_named
from pytest_mlperf.config.option_types import suggest
from pytest_mlperf.config.shape_options import EVERY
from pytest_mlperf.config.shape_options import KINDS
from pytest_mlperf.config.shape_options import Shape
from pytest_mlperf.config.shape_options import parse_shapes

LENGTH_STEP = 64
"""Profiles and CUDA graphs are made for sequence lengths that are multiples of this."""
LENGTH_RANGES = 3
"""Ranges that sequence lengths are cut into; each is tuned at its upper end."""
QUERY = 8
"""Samples of a MultiStream query: worth kernels of their own."""

Shapes = Mapping[str, Shape]


def up_to(most: int) -> Callable[[str], int]:
    """Return the parser of a whole number from 0 to ``most``."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) > most:
            raise ValueError(f"a whole number from 0 to {most}")
        return int(text)

    return parse


def parse_on_off(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError("on or off")
    return text == "on"


def parse_libraries(text: str) -> tuple[str, ...]:
    """Paths of files that are there, as they were given."""
    paths = [path for path in text.split(os.pathsep) if path]
    for path in paths:
        if not os.path.isfile(path):  # noqa: PTH113 - the text is kept as it is
            raise ValueError(f"a shared library that is there, and {path} is not")
    return tuple(paths)


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """Builder settings."""

    workspace_mib: int = named_option(
        up_to(1 << 24),
        "scratch memory of one kernel, MiB (0: TensorRT decides)",
        default=0,
        name="workspace-mib",
    )
    level: int = named_option(
        up_to(5), "builder optimization level, 0 to 5", default=-1
    )
    """-1 leaves it to TensorRT."""
    cuda_graphs: bool = named_option(
        parse_on_off, "on or off", default=True, name="cuda-graphs"
    )
    plugins: tuple[str, ...] = named_option(
        parse_libraries,
        f"shared libraries with plugins, separated by {os.pathsep!r}",
        default=(),
    )
    min_shapes: Mapping[str, Shape] | None = named_option(
        parse_shapes,
        "smallest shapes of the only profile: 1x64, or input:1x64+input:1x64",
        name="min-shapes",
    )
    opt_shapes: Mapping[str, Shape] | None = named_option(
        parse_shapes,
        "shapes at which that profile is at its best",
        name="opt-shapes",
    )
    max_shapes: Mapping[str, Shape] | None = named_option(
        parse_shapes,
        "its largest shapes; all three or none",
        name="max-shapes",
    )
    """Of the only profile; None: profiles are chosen."""

    def shape_limits(self, name: str) -> tuple[Shape, Shape, Shape]:
        """Return (min, opt, max) of an input, as they were given.

        Raises ``ValueError`` for an input without them.
        """
        try:
            low, usual, high = (
                tuple(shapes[name if name in shapes else EVERY])
                for given in (self.min_shapes, self.opt_shapes, self.max_shapes)
                for shapes in [given or {}]
            )
        except KeyError:
            raise ValueError(f"no shapes of the input {name!r} were given") from None
        return low, usual, high


OPTIONS = list_help(BuildSettings)
"""What ``--mlperf-engine-options`` may say to the tensorrt engine."""


def read_settings(options: Mapping[str, str]) -> BuildSettings:
    """Read engine options; ``provider`` is onnxruntime's and ignored.

    Raises ``ValueError`` for an unknown name or an illegal value.
    """
    for name in options:
        if name not in OPTIONS and name != "provider":
            raise ValueError(
                f"the engine tensorrt has no option {name!r}; it has "
                f"{', '.join(OPTIONS)}.{suggest(name, OPTIONS)}"
            )
    names = [kind.replace("_", "-") for kind in KINDS]
    missing = [name for name in names if name not in options]
    if missing and (given := [name for name in names if name in options]):
        raise ValueError(
            f"{given[0]}={options[given[0]]}, but should be beside "
            f"{' and '.join(missing)}: {OPTIONS[names[-1]]}"
        )
    return BuildSettings(**read_named(BuildSettings, options))


@dataclass(frozen=True, slots=True)
class Profile:
    """An optimization profile: the batch and length (0: not dynamic) that it ends at
    and is tuned for. It begins at 1 x 1 and so takes everything smaller.
    """

    batch: int
    length: int = 0


def choose_profiles(max_batch: int, max_length: int = 0) -> tuple[Profile, ...]:
    """Return the profiles of a plan for up to ``max_batch`` samples a batch.

    One sample (SingleStream), a query (MultiStream) and full batches want different
    kernels, and so do short and long sequences. Smallest first, without repeats.
    """
    batches = sorted({1, min(QUERY, max_batch), max_batch})
    lengths: list[int] = [0]
    if max_length:
        ends = (max_length * n / LENGTH_RANGES for n in range(1, LENGTH_RANGES + 1))
        steps = (math.ceil(end / LENGTH_STEP) * LENGTH_STEP for end in ends)
        lengths = sorted({min(max_length, length) for length in steps})
    return tuple(Profile(b, n) for b, n in product(batches, lengths))


def shape_limits(
    profile: Profile, shape: Sequence[int], name: str
) -> tuple[Shape, Shape, Shape]:
    """Return (min, opt, max) of an input whose graph has ``shape`` (-1: varies).

    Raises ``ValueError`` for an axis that varies and is neither batch nor length.
    """
    low, high = list(shape), list(shape)
    for axis, size in enumerate(shape):
        if size >= 0:
            continue
        if axis > 1 or (axis == 1 and not profile.length):
            raise ValueError(
                f"axis {axis} of the input {name!r} varies, but only the batch (axis "
                "0) and, of models with a dynamic length, axis 1 may; export the model "
                "with that axis fixed"
            )
        low[axis], high[axis] = 1, (profile.length if axis else profile.batch)
    return tuple(low), tuple(high), tuple(high)


def find_profile(max_shapes: Sequence[Shapes], shapes: Shapes) -> int | None:
    """Return the first profile whose largest shapes hold ``shapes``, or None."""
    for number, largest in enumerate(max_shapes):
        if all(
            len(shape) == len(largest[name])
            and all(a <= b for a, b in zip(shape, largest[name], strict=True))
            for name, shape in shapes.items()
        ):
            return number
    return None


def round_up(size: int, sizes: Sequence[int]) -> int:
    """Return the smallest of ``sizes`` (ascending) that holds ``size``, or itself."""
    return next((s for s in sizes if s >= size), size)


def choose_graph_batches(max_batch: int) -> tuple[int, ...]:
    """Return the batches that CUDA graphs are recorded for: powers of two, the largest,
    and half-way between the large ones, where rounding up costs most.
    """
    powers = [1 << n for n in range(max_batch.bit_length()) if 1 << n <= max_batch]
    middles = [3 * p // 2 for p in powers if p >= 32 and 3 * p // 2 < max_batch]
    return tuple(sorted({*powers, *middles, max_batch}))
