"""The model of a repository for Triton's Python backend: an ONNX file, onnxruntime.

This file is copied into the repository as ``model.py`` and stands alone there. Arrays
go in and out by DLPack, because Triton's Python stubs of 2024 misread the types of
NumPy 2.
"""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import numpy as np

THREADS = "intra_op_thread_count"
"""The parameter in config.pbtxt, named as the onnxruntime backend names it."""


class TritonPythonModel:
    """One instance, in a process of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the model file beside this one."""
        import onnxruntime

        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        options = onnxruntime.SessionOptions()
        threads = config["parameters"].get(THREADS, {}).get("string_value", "1")
        options.intra_op_num_threads = int(threads)
        options.inter_op_num_threads = 1
        providers: list[Any] = ["CPUExecutionProvider"]
        if args["model_instance_kind"] == "GPU":
            device = {"device_id": args["model_instance_device_id"]}
            providers.insert(0, ("CUDAExecutionProvider", device))
        self.session = onnxruntime.InferenceSession(
            folder / "model.onnx", options, providers=providers
        )
        self.inputs = [one["name"] for one in config["input"]]
        self.outputs = [one["name"] for one in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests as one batch."""
        import triton_python_backend_utils as backend

        arrays = [
            [
                np.from_dlpack(backend.get_input_tensor_by_name(request, name))
                for request in requests
            ]
            for name in self.inputs
        ]
        sizes = [len(array) for array in arrays[0]]
        batch = {
            name: join_rows(parts)
            for name, parts in zip(self.inputs, arrays, strict=True)
        }
        results = self.session.run(self.outputs, batch)
        responses, start = [], 0
        for size in sizes:
            tensors = [
                to_tensor(backend, name, result[start : start + size])
                for name, result in zip(self.outputs, results, strict=True)
            ]
            responses.append(backend.InferenceResponse(tensors))
            start += size
        return responses


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
