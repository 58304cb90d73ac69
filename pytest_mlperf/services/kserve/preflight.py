"""Checks of a KServe v2 server before a run: is the model there, does it fit?

Every mismatch has a message of its own here, before LoadGen starts.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.config.option_types import suggest
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.services.kserve.server_api import ServerApi
from pytest_mlperf.services.kserve.server_api import ServerRefusal
from pytest_mlperf.services.kserve.tensors import datatype_of

BINARY = "binary_tensor_data"
"""The extension, as servers list it."""
CUDA_MEMORY = "cuda_shared_memory"
ANY = -1
"""A size that the model leaves open."""
NAME_MODEL = "name one with --mlperf-endpoint-model NAME"


def choose_model(api: ServerApi, wanted: str) -> str:
    """Return the model to ask for: the wanted one, or the only one that is ready.

    Raises ``RunRefused`` for a server that is not ready or has not that model.
    """
    models = list_models(api)
    if wanted:
        _require_model(api, wanted, models)
        return wanted
    if not api.is_ready():
        raise RunRefused(
            f"{api.url}: the server is not ready (v2/health/ready), but should be; "
            f"{_name_states(models)}look into its log, or wait until it has loaded "
            "its models"
        )
    ready = sorted(name for name, state in models.items() if state in ("READY", ""))
    if len(ready) == 1:
        return ready[0]
    # The other models are the parts of an ensemble.
    ensembles = [name for name in ready if is_ensemble(api, name)]
    if len(ensembles) == 1:
        return ensembles[0]
    found = ", ".join(map(repr, ready)) or "no model that is ready"
    raise RunRefused(f"{api.url} serves {found}; {NAME_MODEL}")


def is_ensemble(api: ServerApi, model: str) -> bool:
    """Return whether a model is made of others."""
    with suppress(ServerRefusal):
        return bool(api.read_metadata(model).get("platform") == "ensemble")
    return False


def has_binary_tensors(api: ServerApi) -> bool:
    """Return whether a server takes tensors as bytes; True where it does not say."""
    extensions = api.read_extensions()
    return extensions is None or BINARY in extensions


def check_cuda_memory(apis: Sequence[ServerApi]) -> None:
    """Raise ``RunRefused`` for a server that takes no CUDA shared memory."""
    for api in apis:
        extensions = api.read_extensions()
        if extensions is not None and CUDA_MEMORY not in extensions:
            raise RunRefused(
                f"{api.url}: the server's extensions are {', '.join(extensions)}, but "
                f"should have {CUDA_MEMORY}; ask it with shared_memory=none, or start "
                "a Triton that was built for GPUs"
            )


def list_models(api: ServerApi) -> dict[str, str]:
    """Return model -> its state and the reason; empty where the server has no index."""
    models: dict[str, str] = {}
    with suppress(ServerRefusal):
        for one in api.read_index():
            # mlserver's gRPC writes State.READY.
            state = str(one.get("state", "")).removeprefix("State.")
            words = state, str(one.get("reason", ""))
            if models.get(str(one["name"])) != "READY":  # another version's
                models[str(one["name"])] = ": ".join(filter(None, words))
    return models


def _name_states(models: Mapping[str, str]) -> str:
    bad = [f"{name} is {s}" for name, s in sorted(models.items()) if s != "READY"]
    return f"{', '.join(bad)}; " if bad else ""


def _require_model(api: ServerApi, wanted: str, models: Mapping[str, str]) -> None:
    if api.is_model_ready(wanted):
        return
    state = models.get(wanted)
    if state is not None:
        raise RunRefused(
            f"{api.url}: the model {wanted!r} is {state or 'not ready'}, but should be "
            "READY; look into the server's log"
        )
    served = ", ".join(map(repr, sorted(models))) or "none that it lists"
    raise RunRefused(
        f"{api.url} does not serve the model {wanted!r}; it serves {served}."
        f"{suggest(wanted, models)} Put it into the model repository, or {NAME_MODEL}"
    )


def check_model(
    api: ServerApi, model: str, batch: Batch, outputs: Sequence[str]
) -> dict[str, str]:
    """Return what a model says of itself, as facts.

    ``batch``: a request's arrays; ``outputs``: names that the workload wants. Raises
    ``RunRefused`` for a model that does not take them.
    """
    try:
        metadata = api.read_metadata(model)
    except ServerRefusal as error:
        raise RunRefused(
            f"{api.url}: no metadata of the model {model!r} ({error}); look into the "
            "server's log"
        ) from None
    config: dict[str, Any] = {}
    with suppress(ServerRefusal):  # an extension of Triton's
        config = api.read_config(model)
    most = config.get("max_batch_size")
    fail = _failure(f"{api.url}: the model {model!r}", most)
    _check_inputs(metadata, batch, fail)
    size = len(next(iter(batch.values())))
    if most and size > int(most):
        raise fail(
            f"takes batches of up to {most} (max_batch_size), but requests have {size} "
            "samples; raise max_batch_size, or ask for fewer"
        )
    names = [str(one["name"]) for one in metadata.get("outputs", ())]
    if missing := [name for name in outputs if name not in names]:
        raise fail(
            f"has the outputs {', '.join(names)}, but should also have "
            f"{', '.join(missing)}; export it from the workload's model"
        )
    return _describe(metadata, config)


Failure = Callable[[str], RunRefused]


def _failure(subject: str, most: Any) -> Failure:
    def fail(problem: str) -> RunRefused:
        # A model that does not batch has no axis for it in its shapes.
        hint = ""
        if most in (0, "0"):
            hint = (
                "; its max_batch_size is 0, so that its shapes have no axis for a "
                "batch: set max_batch_size to 1 or more in config.pbtxt"
            )
        return RunRefused(f"{subject} {problem}{hint}")

    return fail


def _check_inputs(metadata: Mapping[str, Any], batch: Batch, fail: Failure) -> None:
    inputs = {str(one["name"]): one for one in metadata.get("inputs", ())}
    if set(inputs) != set(batch):
        raise fail(
            f"has the inputs {', '.join(inputs) or '(none)'}, but the workload sends "
            f"{', '.join(batch)}; export it from the workload's model"
        )
    for name, array in batch.items():
        datatype, need = str(inputs[name].get("datatype")), datatype_of(array)
        if datatype != need:
            raise fail(
                f"takes {datatype} for {name}, but the workload sends {need}; correct "
                "the input's data_type in config.pbtxt"
            )
        shape = [int(size) for size in inputs[name].get("shape", ())]
        if not fits(shape, array):
            raise fail(
                f"takes {shape} for {name}, but the workload sends "
                f"{list(array.shape)}; correct the input's dims in config.pbtxt"
            )


def fits(shape: Sequence[int], array: Array) -> bool:
    """Return whether a model's shape, with -1 for any size, takes an array."""
    return len(shape) == array.ndim and all(
        size in (ANY, actual) for size, actual in zip(shape, array.shape, strict=True)
    )


def _describe(metadata: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, str]:
    platform = str(metadata.get("platform", ""))
    served = f"{metadata.get('name')}, {platform}" if platform else metadata.get("name")
    facts = {"model served": str(served)}
    if "max_batch_size" in config:
        facts["max_batch_size"] = str(config["max_batch_size"])
    if groups := config.get("instance_group"):
        facts["instance_group"] = ", ".join(
            f"{one.get('count', 1)} {one.get('kind', '')}".strip() for one in groups
        )
    if "dynamic_batching" in config:
        batching = config["dynamic_batching"]
        delay = batching.get("max_queue_delay_microseconds", 0)
        facts["dynamic_batching"] = f"max_queue_delay_microseconds {delay}"
        if sizes := batching.get("preferred_batch_size"):
            facts["dynamic_batching"] += f", preferred_batch_size {sizes}"
    return facts
