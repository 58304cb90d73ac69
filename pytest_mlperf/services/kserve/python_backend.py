"""The model of a repository for Triton's Python backend: an ONNX file by onnxruntime,
or TorchScript by PyTorch.

This file is copied into the repository as ``model.py`` and stands alone there. Arrays
go in and out by DLPack, because Triton's Python stubs of 2024 misread the types of
NumPy 2. Of TorchScript nothing is copied on a CPU but what Triton's own memory takes.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[Mapping[str, Any]], list[Any]]
"""A batch's arrays by name -> the outputs, in the configuration's order."""
Take = Callable[[Any], Any]
"""Triton's tensor -> an array on its memory."""
WARM_RUNS = 2
"""TorchScript's executor profiles the first run and compiles in the second; on a CPU
these took two to ten times as long as those that followed."""
THREADS = "intra_op_thread_count"
"""The parameter in config.pbtxt, named as the onnxruntime backend names it."""


class TritonPythonModel:
    """One instance, in a process of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the model file beside this one."""
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        threads = config["parameters"].get(THREADS, {}).get("string_value", "1")
        is_gpu = args["model_instance_kind"] == "GPU"
        device = args["model_instance_device_id"] if is_gpu else None
        self.inputs = [one["name"] for one in config["input"]]
        self.outputs = [one["name"] for one in config["output"]]
        self.take: Take = np.from_dlpack
        if (folder / "model.pt").exists():
            path = folder / "model.pt"
            self.run, self.take = open_torchscript(path, int(threads), device)
            warm_up(self.run, config["input"])
        else:
            path = folder / "model.onnx"
            self.run = open_onnx(path, int(threads), device, self.outputs)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests as one batch."""
        import triton_python_backend_utils as backend

        arrays = [
            [
                self.take(backend.get_input_tensor_by_name(request, name))
                for request in requests
            ]
            for name in self.inputs
        ]
        sizes = [len(array) for array in arrays[0]]
        batch = {
            name: join_rows(parts)
            for name, parts in zip(self.inputs, arrays, strict=True)
        }
        results = self.run(batch)
        responses, start = [], 0
        for size in sizes:
            tensors = [
                to_tensor(backend, name, result[start : start + size])
                for name, result in zip(self.outputs, results, strict=True)
            ]
            responses.append(backend.InferenceResponse(tensors))
            start += size
        return responses


def open_onnx(path: Path, threads: int, device: str | None, outputs: list[str]) -> Run:
    """Return what runs an ONNX file, on a GPU where its number is given."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    providers: list[Any] = ["CPUExecutionProvider"]
    if device is not None:
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device}))
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    return lambda batch: session.run(outputs, batch)


def open_torchscript(path: Path, threads: int, device: str | None) -> tuple[Run, Take]:
    """Return what runs TorchScript, outputs in the configuration's order, and what
    takes its inputs. NumPy's arrays of DLPack are read-only, which PyTorch warns of.
    """
    import torch

    torch.set_num_threads(threads)
    place = "cpu" if device is None else f"cuda:{device}"
    module = torch.jit.load(str(path), map_location=place)
    if device is None:
        # Weights in the layout that convolutions on a CPU read.
        module = torch.jit.optimize_for_inference(module.eval())

    def run(batch: Mapping[str, Any]) -> list[Any]:
        given = {n: torch.from_numpy(array).to(place) for n, array in batch.items()}
        with torch.inference_mode():
            return [output.cpu().numpy() for output in module(**given)]

    return run, lambda tensor: torch.from_dlpack(tensor).numpy()


def warm_up(run: Run, inputs: list[dict[str, Any]]) -> None:
    """Run a batch of zeros, before the model is ready; free axes have one entry."""
    batch = {}
    for one in inputs:
        dims = one.get("reshape", one).get("shape", one["dims"])
        dtype = one["data_type"].removeprefix("TYPE_").replace("FP", "FLOAT").lower()
        sizes = [max(1, int(size)) for size in dims]
        batch[one["name"]] = np.zeros([1, *sizes], dtype)
    for _ in range(WARM_RUNS):
        run(batch)


def join_rows(parts: list[Any]) -> Any:
    """Return the rows of all arrays; shorter sequences are padded with zeros."""
    if len(parts) == 1:
        return parts[0]
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    width = max(part.shape[1] for part in parts)
    shape = (sum(map(len, parts)), width, *parts[0].shape[2:])
    joined, start = np.zeros(shape, parts[0].dtype), 0
    for part in parts:
        joined[start : start + len(part), : part.shape[1]] = part
        start += len(part)
    return joined


def to_tensor(backend: Any, name: str, array: Any) -> Any:
    """Return Triton's tensor of an array, without a copy."""
    capsule = np.ascontiguousarray(array).__dlpack__()
    # Triton frees what the capsule holds. NumPy's destructor would complain about the
    # name that Triton gives a capsule that it has taken.
    set_destructor = ctypes.pythonapi.PyCapsule_SetDestructor
    set_destructor(ctypes.py_object(capsule), None)
    return backend.Tensor.from_dlpack(name, capsule)
