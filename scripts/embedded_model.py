"""What the scripts share that make the embedded models again.

Finding a package's files, a step of training, the ONNX file of a network, and a
manifest with hashes and the score of the shipped files through the package's own code.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED = ROOT / "pytest_mlperf" / "embedded"
HALVED_VALUES = 256
"""Tensors of fewer values stay in fp32: they save nothing."""


def find_package(name: str) -> Path:
    """Return the folder of an installed package, which need not be imported."""
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"no package {name}: see the packages above"
    assert spec.origin is not None
    return Path(spec.origin).parent


def run_steps(steps: Mapping[str, Callable[..., None]], default: Iterable[str]) -> None:
    """Run the steps that the command line names after a folder, which each one gets.

    ``NAME=COUNT`` gives a step its count too.
    """
    build = Path(sys.argv[1])
    build.mkdir(parents=True, exist_ok=True)
    for text in sys.argv[2:] or default:
        print("step", text, flush=True)
        name, _, count = text.partition("=")
        steps[name](build, *([int(count)] if count else []))


class Training:
    """The steps of an optimizer, with their losses now and then on the screen."""

    def __init__(
        self, optimizer: Any, *, every: int, clip: float | None = None, name: str = ""
    ) -> None:
        self.optimizer, self.every, self.clip = optimizer, every, clip
        self.name = f"{name} " if name else ""
        self.steps, self.started = 0, time.monotonic()

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def take_step(self, loss: Any, shown: Mapping[str, Any] | None = None) -> None:
        """Follow the gradient of a loss; ``shown``: what is printed, by name."""
        from torch.nn.utils import clip_grad_norm_

        self.optimizer.zero_grad()
        loss.backward()
        if self.clip is not None:
            groups = self.optimizer.param_groups
            clip_grad_norm_([p for g in groups for p in g["params"]], self.clip)
        self.optimizer.step()
        if self.steps % self.every == 0:
            parts = shown or {"loss": loss}
            text = ", ".join(f"{k} {v.item():.4f}" for k, v in parts.items())
            spent = time.monotonic() - self.started
            step = f"{self.name}step {self.steps}"
            print(f"{step}: {text}, {spent:.0f} s", flush=True)
        self.steps += 1


def export_network(
    network: Any,
    path: Path,
    inputs: Mapping[str, Any],
    outputs: Iterable[str],
    *,
    axes: Mapping[str, Mapping[int, str]] | None = None,
    opset: int = 17,
) -> None:
    """Write a PyTorch network as ONNX; by default the first axes are the batch."""
    import torch

    names = [*inputs, *outputs]
    torch.onnx.export(
        network,
        tuple(inputs.values()),
        str(path),
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_axes=axes or {name: {0: "batch"} for name in names},
        opset_version=opset,
        dynamo=False,
    )


def fold_constants(path: Path) -> Any:
    """Return an ONNX file's model after onnxruntime's basic optimizations, such as
    batch normalization folded into convolutions.
    """
    import onnx
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        folded = Path(folder) / "folded.onnx"
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(folded)


def halve_weights(model: Any) -> None:
    """Store weight tensors in half precision and cast them back: half as large a file,
    which computes in fp32. Biases and constants stay as they are.
    """
    import onnx
    from onnx import numpy_helper

    graph, kind = model.graph, onnx.TensorProto.FLOAT
    casts = []
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        is_weight = tensor.data_type == kind and values.ndim >= 2
        if not is_weight or values.size < HALVED_VALUES:
            continue
        half = numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}_fp16")
        graph.initializer.remove(tensor)
        graph.initializer.append(half)
        cast, name = [half.name], f"widen_{tensor.name}"
        casts.append(
            onnx.helper.make_node("Cast", cast, [tensor.name], name=name, to=kind)
        )
    for cast in reversed(casts):
        graph.node.insert(0, cast)


def hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hash_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return name -> sha256 of files of a folder."""
    return {name: hash_file(folder / name) for name in names}


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8")


def write_scored_manifest(
    path: Path,
    manifest: dict[str, Any],
    score: Callable[[], Any],
    key: str = "reference",
) -> None:
    """Write a manifest, and once more with what its files score under a key of it.

    It is there before the score, because the package opens the files by it.
    """
    write_manifest(path, manifest)
    manifest[key] = score()
    write_manifest(path, manifest)
    print(path, manifest[key])


def score_samples(
    workload: Any, engine: str = "onnxruntime", precision: str = "fp32"
) -> dict[str, float]:
    """Return what a workload scores: a sample at a time, on one thread."""
    from pytest_mlperf.api import registry
    from pytest_mlperf.api.engine import BuildRequest
    from pytest_mlperf.api.engine import Streams
    from pytest_mlperf.api.engine import open_streams
    from pytest_mlperf.sut.completion import batch_answerer

    provider, dataset = registry.load("engine", engine), workload.dataset
    answers = {}
    with tempfile.TemporaryDirectory() as cache:
        build = provider.build(BuildRequest(workload, precision, Path(cache)))
        with open_streams(provider, build, Streams(1, 1)) as (stream,):
            answer = batch_answerer(stream, workload)
            for index in range(dataset.total):
                dataset.load([index])
                rows, sizes, _ = answer([index])
                answers[index] = rows[0].tobytes()[: sizes[0] if sizes else None]
                dataset.unload([index])
    return workload.score(answers)
