"""A recommender as a Triton ensemble: a sparse model, a dense one, and both in a row.

The batch axis is that of the pairs, as in NVIDIA's deployments: Triton batches the
pairs of several requests. All tables are fused: they are one array with one cache.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_mlperf.api.embedding import EmbeddingTables
from pytest_mlperf.services.kserve import sparse_backend
from pytest_mlperf.services.kserve.deployment import MOST_BATCH
from pytest_mlperf.services.kserve.deployment import Deployment
from pytest_mlperf.services.kserve.model_config import TensorSpec
from pytest_mlperf.services.kserve.model_config import format_config
from pytest_mlperf.services.kserve.model_config import format_tensors

SPARSE, DENSE = "sparse", "dense"
"""Names of the components, as in NVIDIA's repositories."""
MOST_PAIRS = 65_536
"""``max_batch_size`` where nobody chose: the largest batch of NVIDIA's tables."""
FLOAT, KEY = "FP32", "INT32"


def widen_batch(deployment: Deployment) -> Deployment:
    """Return a deployment whose batches hold pairs: 16 would not hold one sample."""
    if deployment.max_batch_size == MOST_BATCH:
        return replace(deployment, max_batch_size=MOST_PAIRS)
    return deployment


def write_sparse(folder: Path, tables: EmbeddingTables, made: Deployment) -> list[Path]:
    """Write the sparse model: configuration, parameters, rows, the Python model."""
    version = folder / "1"
    version.mkdir(parents=True, exist_ok=True)
    config, parameters = folder / "config.pbtxt", version / "sparse.json"
    # A process for each instance would hold the rows once more.
    one = replace(made, backend="python", instance_group_count=1)
    inputs = [TensorSpec(tables.keys, KEY, (sum(tables.hotness),))]
    outputs = [spec_of_vectors(tables)]
    text = format_config(folder.name, one, inputs, outputs)
    config.write_text(text, encoding="utf-8")
    parameters.write_text(json.dumps(describe_store(tables, made), indent=1), "utf-8")
    rows, model = version / "tables.npy", version / "model.py"
    link_file(tables.path, rows)
    source = Path(sparse_backend.__file__).read_text(encoding="utf-8")
    model.write_text(source, encoding="utf-8")
    return [config, parameters, rows, model]


def spec_of_vectors(tables: EmbeddingTables) -> TensorSpec:
    """Return the tensor between the two models, without its batch axis."""
    return TensorSpec(tables.vectors, FLOAT, (len(tables.sizes), tables.dimension))


def describe_store(tables: EmbeddingTables, made: Deployment) -> dict[str, Any]:
    """Return the store's parameters under the names of HPS's configuration file."""
    model = {
        "model": SPARSE,
        "sparse_files": ["tables.npy"],
        "embedding_table_names": [f"table_{n}" for n in range(len(tables.sizes))],
        "embedding_vecsize_per_table": [tables.dimension] * len(tables.sizes),
        "vocabulary_size_per_table": list(tables.sizes),
        "maxnum_catfeature_query_per_table_per_sample": list(tables.hotness),
        "gpucacheper": made.gpucacheper,
        "hit_rate_threshold": made.hit_rate_threshold,
        "max_batch_size": made.max_batch_size,
    }
    return {"models": [model]}


def link_file(source: Path, target: Path) -> None:
    """Put a file there without a copy where the file system can."""
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def write_ensemble(
    folder: Path,
    tables: EmbeddingTables,
    made: Deployment,
    dense: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
    components: tuple[str, str] = (SPARSE, DENSE),
) -> Path:
    """Write the model that clients ask: first the lookup, then the dense part.

    ``dense``: inputs and outputs of the dense model.
    """
    (folder / "1").mkdir(parents=True, exist_ok=True)  # Triton wants a version
    inputs = [one for one in dense[0] if one.name != tables.vectors]
    inputs.append(TensorSpec(tables.keys, KEY, (sum(tables.hotness),)))
    names = [one.name for one in dense[0]], [one.name for one in dense[1]]
    lines = [
        f'name: "{folder.name}"',
        'platform: "ensemble"',
        f"max_batch_size: {made.max_batch_size}",
        *format_tensors("input", inputs, whole=True),
        *format_tensors("output", dense[1], whole=True),
        "ensemble_scheduling {",
        "  step [",
        *_format_step(components[0], [tables.keys], [tables.vectors]),
        "    ,",
        *_format_step(components[1], *names),
        "  ]",
        "}",
    ]
    path = folder / "config.pbtxt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _format_step(
    model: str, inputs: Sequence[str], outputs: Sequence[str]
) -> list[str]:
    """Return a step whose tensors have the same names in the ensemble."""
    maps = [("input_map", name) for name in inputs]
    maps += [("output_map", name) for name in outputs]
    return [
        "    {",
        f'      model_name: "{model}" model_version: -1',
        *(f'      {kind} {{ key: "{name}" value: "{name}" }}' for kind, name in maps),
        "    }",
    ]
