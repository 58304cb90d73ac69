"""The model of a repository for Triton's Python backend: an ONNX file by onnxruntime,
or TorchScript by PyTorch.

This file is copied into the repository as ``model.py`` and stands alone there. Arrays
go in and out by DLPack, because Triton's Python stubs of 2024 misread the types of
NumPy 2. Of TorchScript nothing is copied on a CPU but what Triton's own memory takes.
On a GPU, inputs that Triton has there stay there, and so do the answers to them.
"""

from __future__ import annotations

import ctypes
import json
import math
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Parts = Mapping[str, list[Any]]
"""Input -> an array of each request."""
Run = Callable[[Parts], list[Any]]
"""A batch's parts -> the outputs, in the configuration's order."""
Take = Callable[[Any], Any]
"""Triton's tensor -> an array on its memory."""
Shape = tuple[int, ...]
WARM_RUNS = 2
"""TorchScript's executor profiles the first run and compiles in the second; on a CPU
these took two to ten times as long as those that followed."""
ALIGNMENT = 256
"""Bytes; of the tensors that share one memory."""
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
        path = folder / "model.pt"
        if not path.exists():
            path = folder / "model.onnx"
            self.run = open_onnx(path, int(threads), device, self.outputs)
        elif device is None:
            self.run, self.take = open_torchscript(path, int(threads))
            warm_up(self.run, config["input"])
        else:
            import torch
            import triton_python_backend_utils as backend

            model = GpuModel(path, int(threads), f"cuda:{device}")
            self.run, self.take = model.run, torch.from_dlpack
            warm_up(self.run, config["input"], torch.from_numpy)
            for shapes in read_graph_shapes(config):
                told = model.capture(shapes, find_types(config["input"]))
                backend.Logger.log_info(told)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests as one batch."""
        import triton_python_backend_utils as backend

        parts = {
            name: [
                self.take(backend.get_input_tensor_by_name(request, name))
                for request in requests
            ]
            for name in self.inputs
        }
        sizes = [len(array) for array in parts[self.inputs[0]]]
        results = self.run(parts)
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

    def run(parts: Parts) -> list[Any]:
        found: list[Any] = session.run(outputs, join_all(parts))
        return found

    return run


def open_torchscript(path: Path, threads: int) -> tuple[Run, Take]:
    """Return what runs TorchScript on CPUs, and what takes its inputs. NumPy's arrays
    of DLPack are read-only, which PyTorch warns of.
    """
    import torch

    torch.set_num_threads(threads)
    module = torch.jit.load(str(path), map_location="cpu")
    # Weights in the layout that convolutions on a CPU read.
    module = torch.jit.optimize_for_inference(module.eval())

    def run(parts: Parts) -> list[Any]:
        given = {n: torch.from_numpy(array) for n, array in join_all(parts).items()}
        with torch.inference_mode():
            return [output.numpy() for output in module(**given)]

    return run, lambda tensor: torch.from_dlpack(tensor).numpy()


class GpuModel:
    """TorchScript on a GPU: replayed where its batch's shapes were recorded as a CUDA
    graph, else launched kernel by kernel.

    Parts are PyTorch's tensors, in the host's memory or the GPU's. Where all are on the
    GPU the outputs are tensors there, else NumPy's arrays. They are valid until the
    next run.
    """

    def __init__(self, path: Path, threads: int, place: str) -> None:
        import torch

        torch.set_num_threads(threads)
        self.place = place
        self.module = torch.jit.load(str(path), map_location=place)
        self.graphs: dict[tuple[tuple[str, Shape], ...], CapturedGraph] = {}

    def run(self, parts: Parts) -> list[Any]:
        """Return the outputs of a batch."""
        import torch

        stays = all(part.is_cuda for own in parts.values() for part in own)
        shapes = {name: joined_shape(own) for name, own in parts.items()}
        graph = self.graphs.get(tuple(shapes.items()))
        with torch.inference_mode():
            if graph is not None:
                return graph.replay(parts, stays=stays)
            outputs = self.module(**self.join(parts, shapes))
            if not stays:
                return [output.cpu().numpy() for output in outputs]
            outputs = [output.contiguous() for output in outputs]
            torch.cuda.current_stream(self.place).synchronize()  # Triton has its own
            return outputs

    def join(self, parts: Parts, shapes: Mapping[str, Shape]) -> dict[str, Any]:
        """Return each input's rows on the GPU, padded with zeros."""
        import torch

        batch = {}
        for name, own in parts.items():
            if len(own) == 1:
                batch[name] = own[0].to(self.place)
                continue
            # On the host where all are: one copy of all rows is less than many.
            place = self.place if any(part.is_cuda for part in own) else "cpu"
            joined = torch.empty(shapes[name], dtype=own[0].dtype, device=place)
            fill_rows(joined, own)
            batch[name] = joined.to(self.place)
        return batch

    def capture(self, shapes: Mapping[str, Shape], types: Mapping[str, str]) -> str:
        """Record a batch of these shapes; return what happened, for the log."""
        import torch

        shown = ", ".join(f"{name} {[*shape]}" for name, shape in shapes.items())
        try:
            with torch.inference_mode():
                graph = CapturedGraph(self.module, self.place, shapes, types)
        except Exception as error:  # noqa: BLE001 - the model runs without it
            line = str(error).strip().partition("\n")[0]
            return (
                f"no CUDA graph of {shown}: {type(error).__name__}: {line}; batches of "
                "these shapes are launched kernel by kernel"
            )
        self.graphs[tuple(shapes.items())] = graph
        return f"CUDA graph of {shown} captured"


class CapturedGraph:
    """A recorded run for one set of shapes, with memory of its own.

    Inputs lie in one memory, so that one copy brings those of the host to the GPU.
    """

    def __init__(
        self,
        module: Any,
        place: str,
        shapes: Mapping[str, Shape],
        types: Mapping[str, str],
    ) -> None:
        import torch

        self.stream = torch.cuda.Stream(place)
        size = 0
        rooms = {}
        for name, shape in shapes.items():
            kind = getattr(torch, types[name])
            end = size + math.prod(shape) * kind.itemsize
            rooms[name] = size, end, kind
            size = -(-end // ALIGNMENT) * ALIGNMENT
        self.host = torch.zeros(size, dtype=torch.uint8, pin_memory=True)
        self.memory = torch.zeros(size, dtype=torch.uint8, device=place)
        self.on_host, self.inputs = (
            {
                name: memory[start:end].view(kind).view(shapes[name])
                for name, (start, end, kind) in rooms.items()
            }
            for memory in (self.host, self.memory)
        )
        self.stream.wait_stream(torch.cuda.current_stream(place))
        with torch.cuda.stream(self.stream):
            for _ in range(WARM_RUNS + 1):  # libraries take their work space now
                module(**self.inputs)
        self.stream.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        # Triton's own threads may go on with CUDA meanwhile.
        mode = "thread_local"
        with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode=mode):
            self.outputs = [output.contiguous() for output in module(**self.inputs)]
        self.results = [
            torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
            for output in self.outputs
        ]

    def replay(self, parts: Parts, *, stays: bool) -> list[Any]:
        """Return the outputs: of the GPU if they stay there, else NumPy's."""
        import torch

        on_host = not any(part.is_cuda for own in parts.values() for part in own)
        with torch.cuda.stream(self.stream):
            for name, own in parts.items():
                fill_rows((self.on_host if on_host else self.inputs)[name], own)
            if on_host:
                self.memory.copy_(self.host, non_blocking=True)
            self.graph.replay()
            if not stays:
                for result, output in zip(self.results, self.outputs, strict=True):
                    result.copy_(output, non_blocking=True)
        self.stream.synchronize()
        return self.outputs if stays else [result.numpy() for result in self.results]


def joined_shape(parts: Sequence[Any]) -> Shape:
    """Return the shape of all parts' rows; shorter sequences are padded."""
    first = tuple(parts[0].shape)
    if len(parts) == 1:
        return first
    rows = sum(part.shape[0] for part in parts)
    if len(first) == 1:
        return (rows,)
    return (rows, max(part.shape[1] for part in parts), *first[2:])


def fill_rows(joined: Any, parts: Sequence[Any]) -> None:
    """Copy all parts' rows into an array of ``joined_shape``; what is short gets zeros
    behind it.
    """
    start = 0
    for part in parts:
        rows = joined[start : start + len(part)]
        start += len(part)
        if part.shape == rows.shape:
            rows[:] = part
            continue
        rows[:, : part.shape[1]] = part
        rows[:, part.shape[1] :] = 0


def read_graph_shapes(config: Mapping[str, Any]) -> list[dict[str, Shape]]:
    """Return the shapes to record, in the terms of config.pbtxt: ``graph_spec``."""
    cuda = config.get("optimization", {}).get("cuda", {})
    names = [one["name"] for one in config["input"]]
    return [
        {
            name: (int(spec["batch_size"]), *map(int, spec["input"][name]["dim"]))
            for name in names
        }
        for spec in (cuda.get("graph_spec", ()) if cuda.get("graphs") else ())
    ]


def find_types(inputs: list[dict[str, Any]]) -> dict[str, str]:
    """Return input -> NumPy's and PyTorch's name of its type."""
    kinds = {one["name"]: one["data_type"].removeprefix("TYPE_") for one in inputs}
    return {name: kind.replace("FP", "FLOAT").lower() for name, kind in kinds.items()}


def warm_up(run: Run, inputs: list[dict[str, Any]], make: Take = np.asarray) -> None:
    """Run a batch of zeros, before the model is ready; free axes have one entry.

    ``make``: from NumPy's array what the run takes.
    """
    batch, types = {}, find_types(inputs)
    for one in inputs:
        dims = one.get("reshape", one).get("shape", one["dims"])
        sizes = [max(1, int(size)) for size in dims]
        batch[one["name"]] = [make(np.zeros([1, *sizes], types[one["name"]]))]
    for _ in range(WARM_RUNS):
        run(batch)


def join_all(parts: Parts) -> dict[str, Any]:
    """Return each input's rows."""
    return {name: join_rows(own) for name, own in parts.items()}


def join_rows(parts: list[Any]) -> Any:
    """Return the rows of all arrays; shorter sequences are padded with zeros."""
    if len(parts) == 1:
        return parts[0]
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    joined = np.empty(joined_shape(parts), parts[0].dtype)
    fill_rows(joined, parts)
    return joined


def to_tensor(backend: Any, name: str, array: Any) -> Any:
    """Return Triton's tensor of an array, without a copy."""
    if not isinstance(array, np.ndarray):
        return backend.Tensor.from_dlpack(name, array)
    capsule = np.ascontiguousarray(array).__dlpack__()
    # Triton frees what the capsule holds. NumPy's destructor would complain about the
    # name that Triton gives a capsule that it has taken.
    set_destructor = ctypes.pythonapi.PyCapsule_SetDestructor
    set_destructor(ctypes.py_object(capsule), None)
    return backend.Tensor.from_dlpack(name, capsule)
