"""The sparse model of an ensemble, in Triton's Python backend: the embedding store.

This file is copied into the repository as ``model.py``. The Python that runs it needs
pytest-mlperf: the store is that of the engines. ``sparse.json`` beside it has the
parameters, by HPS's names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


class SparseModel:
    """One instance; its process has one store."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the tables that sparse.json names."""
        from pytest_mlperf.api.embedding import EmbeddingTables
        from pytest_mlperf.embedding.shared_store import open_store

        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        (model,) = json.loads((folder / "sparse.json").read_text("utf-8"))["models"]
        self.keys, self.vectors = (
            config["input"][0]["name"],
            config["output"][0]["name"],
        )
        tables = EmbeddingTables(
            path=folder / model["sparse_files"][0],
            sizes=tuple(model["vocabulary_size_per_table"]),
            hotness=tuple(model["maxnum_catfeature_query_per_table_per_sample"]),
            dimension=model["embedding_vecsize_per_table"][0],
        )
        self.store = open_store(
            tables,
            {
                "gpucacheper": str(model["gpucacheper"]),
                "hit_rate_threshold": str(model["hit_rate_threshold"]),
            },
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Look up the keys of all requests at once."""
        import triton_python_backend_utils as backend

        from pytest_mlperf.services.kserve.python_backend import to_tensor

        keys = [
            np.from_dlpack(backend.get_input_tensor_by_name(request, self.keys))
            for request in requests
        ]
        joined = keys[0] if len(keys) == 1 else np.concatenate(keys)
        try:
            vectors = self.store.lookup_batch(joined)
        except (ValueError, RuntimeError) as error:  # a wrong key; a tier that failed
            failed = backend.TritonError(str(error))
            return [backend.InferenceResponse(error=failed) for _ in requests]
        ends = np.cumsum([len(one) for one in keys])[:-1]
        return [
            backend.InferenceResponse([to_tensor(backend, self.vectors, part)])
            for part in np.split(vectors, ends)
        ]

    def finalize(self) -> None:
        """Print the tiers' counters into the server's log, and close the store."""
        from pytest_mlperf.embedding.shared_store import close_store

        for name, line in self.store.facts.items():
            print(f"{name}: {line}", flush=True)  # noqa: T201 - the server's log
        close_store(self.store)


TritonPythonModel = SparseModel
"""The name by which Triton's backend finds it."""
