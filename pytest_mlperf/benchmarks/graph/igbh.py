"""IGBH-Full as the reference lays it out, and the step that makes it ready to sample.

``data preprocess`` orders the edges of each relation by the node they go to, in both
directions, and turns the reference's PyTorch files into npy and ONNX. It holds one
relation's edges in memory: of the official graph up to a hundred gigabytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.samples import Array
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.files import save_array
from pytest_mlperf.benchmarks.graph.hetero_graph import HeteroGraph
from pytest_mlperf.benchmarks.graph.hetero_graph import Relation
from pytest_mlperf.benchmarks.graph.hetero_graph import check_graph
from pytest_mlperf.benchmarks.graph.hetero_graph import compress_edges
from pytest_mlperf.benchmarks.graph.rgat_model import Attention
from pytest_mlperf.benchmarks.graph.rgat_model import RgatWeights
from pytest_mlperf.benchmarks.graph.rgat_model import write_rgat

FOLDERS = ("data/igbh/full/processed", "igbh/full/processed")
MODELS = ("models/rgat/RGAT.pt", "model/RGAT.pt")
WIDTH, CLASSES, FANOUTS = 1024, 2983, (15, 10, 5)
"""Of a node's features; classes of papers; neighbors of each relation, hop by hop."""
KINDS = ("paper", "author", "institute", "fos", "journal", "conference")
EDGES = (
    ("paper", "cites", "paper"),
    ("paper", "written_by", "author"),
    ("author", "affiliated_to", "institute"),
    ("paper", "topic", "fos"),
    ("paper", "published", "journal"),
    ("paper", "venue", "conference"),
)
"""Source, name and target of each file of edges."""
READY = "pytest-mlperf"
"""Folder beside the reference's files, for what is made of them."""
GRAPH, NODES = "rgat.onnx", "val_idx.npy"


def list_relations() -> list[tuple[str, str, str]]:
    """Return source, name and target of all relations: all but ``cites`` twice."""
    back = [(target, f"rev_{name}", source) for source, name, target in EDGES[1:]]
    return [*EDGES, *back]


def find_folder(scratch: Path | None) -> Path | None:
    """Return the folder of the graph's files."""
    if scratch is None:
        return None
    found = (scratch / folder for folder in FOLDERS)
    return next((one for one in found if (one / "paper").is_dir()), None)


def map_numbers(path: Path, width: int) -> Array:
    """Map an array of float32 rows, with a header of npy or, as the largest are, none.

    Raises ``ValueError`` for a file that holds no whole number of rows.
    """
    with path.open("rb") as file:
        has_header = file.read(6) == b"\x93NUMPY"
    if has_header:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    elif path.stat().st_size % (4 * width):
        raise ValueError(
            f"{path} has {path.stat().st_size:,} bytes, but should have {4 * width:,}"
            " for each node; download it again"
        )
    else:
        values = np.memmap(path, np.float32, "r")
    return np.reshape(values, (-1, width) if width > 1 else -1)


def read_graph(folder: Path) -> HeteroGraph:
    """Map the graph and check it. Raises ``ValueError`` for a dangling edge."""
    features = {k: map_numbers(folder / k / "node_feat.npy", WIDTH) for k in KINDS}
    relations = tuple(
        Relation(source, name, target, *(
            np.load(folder / READY / f"{name}.{part}.npy", mmap_mode="r")
            for part in ("starts", "sources")
        ))
        for source, name, target in list_relations()
    )  # fmt: skip
    graph = HeteroGraph(features, relations)
    try:
        check_graph(graph)
    except ValueError as error:
        raise ValueError(
            f"{folder / READY}: {error}: remove the relation's files there and run"
            " pytest-mlperf data preprocess rgat"
        ) from error
    return graph


def read_checkpoint(path: Path) -> RgatWeights:
    """Return the weights of the reference's checkpoint.

    Nothing but tensors is read of it. Raises ``ValueError`` for other weights.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content["model_state_dict"]

        def numbers(name: str) -> Array:
            return np.asarray(state[f"model.{name}"].float().numpy(), np.float32)

        def attention(layer: int, name: str) -> Attention:
            part = f"layers.{layer}.mods.{name}"
            return Attention(
                np.ascontiguousarray(numbers(f"{part}.fc.weight").T),
                numbers(f"{part}.attn_l")[0],
                numbers(f"{part}.attn_r")[0],
                numbers(f"{part}.bias"),
            )

        names = [name for _, name, _ in list_relations()]
        found = tuple(
            {n: attention(layer, n) for n in names} for layer in range(len(FANOUTS))
        )
        head = np.ascontiguousarray(numbers("linear.weight").T)
        return RgatWeights(found, head, numbers("linear.bias"))
    except Exception as error:
        raise ValueError(
            f"{path} is not the reference's checkpoint ({type(error).__name__}:"
            f" {str(error).partition('. ')[0]}); it should hold 'model_state_dict' of"
            f" an R-GAT with {len(FANOUTS)} layers. Download rgat-model again."
        ) from error


def read_nodes(path: Path) -> Array:
    """Return the nodes of a PyTorch file, int64. Raises ``ValueError`` for another."""
    import torch

    try:
        nodes = torch.load(path, map_location="cpu", weights_only=True).numpy()
        return np.asarray(nodes, np.int64).reshape(-1)
    except Exception as error:
        raise ValueError(
            f"{path} is not the list of validation nodes ({type(error).__name__}); it"
            " should be the tensor that the reference's split_seeds.py writes. Run"
            " that again."
        ) from error


def order_edges(folder: Path, name: str) -> tuple[Array, Array]:
    """Return ``starts`` and ``sources`` of a relation, from the file of its edges.

    ``cites`` gets both directions and, instead of the loops that it has, one for each
    paper: igbh.py and components.py, build_graph.
    """
    base = name.removeprefix("rev_")
    source, _, target = next(one for one in EDGES if one[1] == base)
    path = folder / f"{source}__{base}__{target}" / "edge_index.npy"
    edges = np.load(path, mmap_mode="r", allow_pickle=False)
    if edges.ndim != 2 or edges.shape[1] != 2:
        raise ValueError(
            f"{path} has the shape {edges.shape}, but should be [edges, 2]: source and"
            " target of each; download it again"
        )
    kind = source if name != base else target
    count = len(map_numbers(folder / kind / "node_feat.npy", WIDTH))
    first, second = np.asarray(edges[:, 0]), np.asarray(edges[:, 1])
    if name == "cites":
        is_loop = first == second
        first, second = first[~is_loop], second[~is_loop]
        loops = np.arange(count, dtype=first.dtype)
        first, second = (
            np.concatenate([first, second, loops]),
            np.concatenate([second, first, loops]),
        )
    if name != base:
        first, second = second, first
    if len(second) and (second.min() < 0 or second.max() >= count):
        edge = int(np.flatnonzero((second < 0) | (second >= count))[0])
        raise ValueError(
            f"edge {edge:,} of {path} goes to {kind} {int(second[edge]):,}, but there"
            f" are {count:,} nodes of that type: a dangling edge; download it again"
        )
    return compress_edges(first, second, count)


@dataclass(frozen=True, slots=True)
class IgbhPreprocessing:
    """The model, the list of validation nodes, and each relation: an item each."""

    def list_items(self, scratch: Path) -> Sequence[str]:
        files.require_package(
            "torch",
            "its checkpoint cannot be read",
            "pip install 'pytest-mlperf[torch]'",
        )
        names = [name for _, name, _ in list_relations()]
        if find_folder(scratch) is None or self._find_model(scratch) is None:
            raise RequirementMissing(
                f"the graph is not in {scratch / FOLDERS[0]} or the checkpoint not at"
                f" {scratch / MODELS[0]}; pytest-mlperf data status rgat says where"
                " they come from"
            )
        return ["model", "nodes", *names]

    def is_made(self, scratch: Path, item: str) -> bool:
        folder = find_folder(scratch)
        # The sources of a relation's edges are renamed last.
        name = {"model": GRAPH, "nodes": NODES}.get(item, f"{item}.sources.npy")
        return folder is not None and (folder / READY / name).is_file()

    def make(self, scratch: Path, item: str) -> None:
        folder, model = find_folder(scratch), self._find_model(scratch)
        assert folder is not None, "list_items has looked"
        assert model is not None, "list_items has looked"
        (folder / READY).mkdir(exist_ok=True)
        if item == "model":
            write_rgat(folder / READY / GRAPH, read_checkpoint(model))
        elif item == "nodes":
            save_array(folder / READY / NODES, read_nodes(folder / "val_idx.pt"))
        else:
            starts, sources = order_edges(folder, item)
            save_array(folder / READY / f"{item}.starts.npy", starts)
            save_array(folder / READY / f"{item}.sources.npy", sources)

    def finish(self, scratch: Path) -> str:
        folder = find_folder(scratch)
        assert folder is not None, "list_items has looked"
        return f"ready in {folder / READY}"

    def _find_model(self, scratch: Path) -> Path | None:
        found = (scratch / path for path in MODELS)
        return next((path for path in found if path.is_file()), None)


PREPROCESSING = IgbhPreprocessing()
