"""A model of several graphs: encoder and decoder, text encoder, UNet and VAE.

The benchmark says how its parts run one after another (``run``), each with the batch
that is its own; the engine makes and runs the graphs. Both meet in ``Component``.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from typing import runtime_checkable

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import ModelFile

Component = Callable[[Batch], Sequence[Array]]
"""Runs one graph: its inputs by name -> its outputs, in the order of its file."""


@dataclass(frozen=True, slots=True)
class ModelComponents:
    """The graphs of a model, and the loop over them."""

    parts: Mapping[str, ModelFile]
    run: Callable[[Mapping[str, Component], Batch], Sequence[Array]]
    """(components by name, the workload's batch) -> the model's outputs."""


@runtime_checkable
class HasComponents(Protocol):
    """A workload whose ``model`` is None because it has several graphs."""

    @property
    def components(self) -> ModelComponents | None: ...


def model_components(workload: object) -> ModelComponents | None:
    """Return the components of a workload that has any."""
    return workload.components if isinstance(workload, HasComponents) else None
