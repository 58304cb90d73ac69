"""Writes a workload's model into a Triton model repository."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.api.embedded_server import ExportedModel
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.api.workload import model_file
from pytest_mlperf.config.shape_options import KINDS
from pytest_mlperf.services.kserve import ensemble
from pytest_mlperf.services.kserve import python_backend
from pytest_mlperf.services.kserve.deployment import MODULES
from pytest_mlperf.services.kserve.deployment import Deployment
from pytest_mlperf.services.kserve.model_comparison import find_tolerance
from pytest_mlperf.services.kserve.model_config import TensorSpec
from pytest_mlperf.services.kserve.model_config import format_config
from pytest_mlperf.services.kserve.model_formats import WRITERS
from pytest_mlperf.services.kserve.model_formats import ModelSource
from pytest_mlperf.services.kserve.profile_shapes import choose_shapes
from pytest_mlperf.services.kserve.profile_shapes import find_longest
from pytest_mlperf.services.kserve.profile_shapes import list_lengths

VERSION = "1"


def export_model(
    workload: TensorWorkload,
    name: str,
    precision: str,
    deployment: Deployment,
    repository: Path,
) -> ExportedModel:
    """Write ``repository/name``: config.pbtxt and version 1.

    A recommender is an ensemble of that name over the models ``sparse`` and ``dense``.
    Raises ``BuildFailed`` for a workload without an ONNX file, a precision that cannot
    be written, and an export that does not compute what its source computes.
    """
    model = model_file(workload, "triton", has_lookup=True)
    tables = model.embedding
    if tables is not None:
        deployment = ensemble.widen_batch(deployment)
    if deployment.format in MODULES:
        deployment = place_torchscript(deployment)
    folder = repository / (name if tables is None else ensemble.DENSE)
    version = folder / VERSION
    version.mkdir(parents=True, exist_ok=True)
    source = ModelSource(workload, model, precision)
    written = WRITERS[deployment.format](source, deployment, version)
    inputs, outputs = written.inputs, written.outputs
    deployment = complete_shapes(deployment, inputs, workload)
    lengths = list_lengths(workload.dataset.lengths)
    config = folder / "config.pbtxt"
    text = format_config(folder.name, deployment, inputs, outputs, lengths)
    config.write_text(text, "utf-8")
    files = [config, written.path]
    if deployment.backend == "python":
        files.append(version / "model.py")
        shutil.copyfile(python_backend.__file__, files[-1])
    if tables is not None:
        sparse = repository / ensemble.SPARSE
        files += ensemble.write_sparse(sparse, tables, deployment)
        specs = inputs, outputs
        files.append(
            ensemble.write_ensemble(repository / name, tables, deployment, specs)
        )
    tolerance = find_tolerance(precision)
    return ExportedModel(tuple(files), written.differences, tolerance, written.note)


def place_torchscript(deployment: Deployment) -> Deployment:
    """TorchScript keeps its device: a server's GPU could not run a CPU's file."""
    if deployment.instance_group_kind == "KIND_GPU":
        return deployment
    return replace(deployment, instance_group_kind="KIND_CPU")


def complete_shapes(
    deployment: Deployment, inputs: Sequence[TensorSpec], workload: TensorWorkload
) -> Deployment:
    """Return a deployment whose accelerator has a whole profile, or none."""
    if not (deployment.is_accelerated and any(getattr(deployment, k) for k in KINDS)):
        return deployment
    shapes = choose_shapes(deployment, inputs, find_longest(workload.dataset.lengths))
    return replace(deployment, **asdict(shapes))
