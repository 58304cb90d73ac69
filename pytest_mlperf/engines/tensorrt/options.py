"""What ``--mlperf-engine-options`` may say to the tensorrt engine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_mlperf.config.option_types import suggest
from pytest_mlperf.core.errors import Refused

LEGAL = {
    "workspace-mib": "scratch memory of one kernel, MiB (0: TensorRT decides)",
    "level": "builder optimization level, 0 to 5",
    "cuda-graphs": "on or off",
    "plugins": f"shared libraries with plugins, separated by {os.pathsep!r}",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Builder settings."""

    workspace_mib: int = 0
    level: int = -1
    """-1 leaves it to TensorRT."""
    graphs: bool = True
    plugins: tuple[str, ...] = ()


def read(options: Mapping[str, str]) -> Settings:
    """Read engine options; ``provider`` is onnxruntime's and not looked at.

    Raises ``Refused`` for an unknown name or a value that is not legal.
    """
    for name in options:
        if name not in LEGAL and name != "provider":
            raise Refused(
                f"the engine tensorrt has no option {name!r}; it has "
                f"{', '.join(LEGAL)}.{suggest(name, LEGAL)}"
            )
    workspace = _whole(options, "workspace-mib", "0", 1 << 24)
    level = _whole(options, "level", "-1", 5)
    graphs = options.get("cuda-graphs", "on")
    if graphs not in ("on", "off"):
        raise _wrong("cuda-graphs", graphs, "on or off")
    paths = [p for p in options.get("plugins", "").split(os.pathsep) if p]
    for path in paths:
        if not os.path.isfile(path):  # noqa: PTH113 - the text is kept as it is
            raise _wrong("plugins", path, "a shared library that is there")
    return Settings(workspace, level, graphs == "on", tuple(paths))


def _whole(options: Mapping[str, str], name: str, default: str, most: int) -> int:
    text = options.get(name, default)
    if text == default:
        return int(default)
    if not text.isdecimal() or int(text) > most:
        raise _wrong(name, text, f"a whole number from 0 to {most}")
    return int(text)


def _wrong(name: str, found: str, legal: str) -> Refused:
    return Refused(
        f"the engine option {name} is {found!r}, but should be {legal} "
        f"[--mlperf-engine-options]: {LEGAL[name]}"
    )
