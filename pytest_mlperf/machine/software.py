"""The software that measures here, beside what this package asks for."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import Distribution
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mlperf.machine.host import read_text
from pytest_mlperf.machine.host_checks import HostSetting

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OWN = "pytest-mlperf"
DEVELOPMENT = frozenset({"dev", "test"})
"""Extras that measure nothing."""
ALTERNATIVES = {"onnxruntime": ("onnxruntime-openvino", "onnxruntime-gpu")}
"""Package -> others that bring the same module."""
DRIVER = "proc/driver/nvidia/version"


@dataclass(frozen=True)
class Software:
    """The installed packages among those that this one asks for."""

    path: Sequence[str] | None = None
    """Folders to look in; None: where this Python imports from."""
    root: Path = Path("/")
    """Where /proc lies."""

    @cached_property
    def requirements(self) -> tuple[tuple[str, Requirement], ...]:
        """Extra and requirement, as this package's metadata have them.

        An extra that is made of others has their requirements. The extra is empty for
        what everybody has; without metadata there are none.
        """
        found = self._find(OWN)
        if found is None:
            return ()
        extras = sorted({*found.metadata.get_all("Provides-Extra", [])} - DEVELOPMENT)
        texts = found.requires or []
        return tuple((e, one) for e in ("", *extras) for one in _expand(texts, e))

    @cached_property
    def versions(self) -> dict[str, str]:
        """Python, NVIDIA's driver and each installed package -> its version."""
        versions = {"Python": platform.python_version()}
        if driver := read_driver(self.root):
            versions["NVIDIA driver"] = driver
        names = [OWN, *(one.name for _, one in self.requirements)]
        return versions | dict(
            found for name in names if (found := self._find_version(name))
        )

    @cached_property
    def missing_extras(self) -> tuple[str, ...]:
        """Extras of which a package is not installed."""
        return tuple(
            dict.fromkeys(
                extra
                for extra, one in self.requirements
                if extra and not self._find_version(one.name)
            )
        )

    def list_unmet(self) -> list[HostSetting]:
        """Return the installed packages of another version than is asked for."""
        unmet = {}
        for _, one in self.requirements:
            name, version = self._find_version(one.name) or (one.name, "")
            if version and not one.specifier.contains(version, prereleases=True):
                remedy = f"pip install '{name}{one.specifier}'"
                unmet[name] = HostSetting(name, version, str(one.specifier), remedy)
        return list(unmet.values())

    def _find(self, name: str) -> Distribution | None:
        path = sys.path if self.path is None else [*self.path]
        return next(iter(Distribution.discover(name=name, path=path)), None)

    def _find_version(self, name: str) -> tuple[str, str] | None:
        """Return the name and version of a package, or of one in its place."""
        for one in (name, *ALTERNATIVES.get(name, ())):
            if found := self._find(one):
                return one, found.version
        return None


def _expand(texts: Sequence[str], extra: str) -> Iterator[Requirement]:
    from packaging.requirements import Requirement

    for text in texts:
        one = Requirement(text)
        if extra and not (one.marker and "extra" in str(one.marker)):
            continue
        if one.marker and not one.marker.evaluate({"extra": extra}):
            continue
        if one.name == OWN:
            for part in sorted(one.extras):
                yield from _expand(texts, part)
        else:
            yield one


def read_driver(root: Path) -> str:
    """Return the version of NVIDIA's kernel module; empty where none is loaded."""
    text = read_text(root / DRIVER, 400)
    match = re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", text)
    return match[1] if match else ""
