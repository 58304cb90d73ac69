"""rgat: the class of a node in a graph, from its sampled neighbors, accuracy.

Official: the reference's R-GAT on IGBH-Full, 547 million nodes. Embedded: a small R-GAT
on a neighbors' graph of handwritten digits that ships with the project.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pytest_mlperf.api.benchmark import Preprocessing
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.sources import Source
from pytest_mlperf.api.sources import files_digest
from pytest_mlperf.api.sources import missing_files
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.graph import igbh
from pytest_mlperf.benchmarks.graph.hetero_graph import HeteroGraph
from pytest_mlperf.benchmarks.graph.hetero_graph import Relation
from pytest_mlperf.benchmarks.graph.hetero_graph import check_graph
from pytest_mlperf.benchmarks.graph.rgat_model import list_inputs
from pytest_mlperf.benchmarks.graph.workload import NodeDataset
from pytest_mlperf.benchmarks.graph.workload import NodeWorkload
from pytest_mlperf.core.rounds.rule import Rule

EMBEDDED = files.EMBEDDED / "rgat"
BUCKET = "https://igb-public.s3.us-east-2.amazonaws.com/IGBH/processed"
"""Of download_igbh_full.sh, graph/R-GAT of MLCommons' inference repository."""


def declare(name: str, note: str = "") -> Source:
    """Return the declaration of one of the graph's public files."""
    return Source(
        paths=tuple(f"{folder}/{name}" for folder in igbh.FOLDERS),
        origin=f"IGBH-Full of the Illinois Graph Benchmark{note}",
        terms="ODC-By 1.0, as its publishers state",
        urls=(f"{BUCKET}/{name}",),
    )


MODEL = Source(
    paths=igbh.MODELS,
    origin="rgat-model of MLCommons' R2 storage (graph/R-GAT/README.md)",
)
NODES = Source(
    paths=tuple(f"{folder}/val_idx.pt" for folder in igbh.FOLDERS),
    origin="tools/split_seeds.py of graph/R-GAT of MLCommons' inference repository",
)
TERABYTE = frozenset({"paper", "author"})
"""Types whose features have 1.1 TB each."""
SOURCES = (
    MODEL,
    NODES,
    declare("paper/node_label_2K.npy"),
    *(
        declare(f"{kind}/node_feat.npy", " (1.1 TB)" * (kind in TERABYTE))
        for kind in igbh.KINDS
    ),
    *(
        declare(f"{source}__{name}__{target}/edge_index.npy")
        for source, name, target in igbh.EDGES
    ),
)
EMBEDDED_RELATIONS = ("alike", "same_profile")
EMBEDDED_FANOUTS = (5, 3, 2)
"""Neighbors of each relation, hop by hop: a third of the official ones."""
EMBEDDED_CLASSES = 10


def open_embedded(folder: Path = EMBEDDED) -> NodeWorkload:
    """Open the stand-in that ships with the package.

    Raises ``ValueError`` when a file is not the one that the manifest records, or an
    edge has no end.
    """
    manifest = files.read_manifest(folder, "make_rgat.py")
    model, data = folder / "model.onnx", folder / "graph.npz"
    with np.load(data, allow_pickle=False) as arrays:
        relations = tuple(
            Relation("digit", name, "digit", *(arrays[f"{name}.{part}"] for part in
                                               ("starts", "sources")))
            for name in EMBEDDED_RELATIONS
        )  # fmt: skip
        graph = HeteroGraph({"digit": arrays["pixels"] / np.float32(16)}, relations)
        nodes = arrays["evaluation"].astype(np.int64)
        labels = arrays["labels"].astype(np.int64)[nodes]
    check_graph(graph)
    return NodeWorkload(
        kind="embedded",
        title=f"embedded: a small R-GAT on a graph of {graph.count_nodes('digit'):,}"
        " digits",
        digest=files_digest([model, data], repr(EMBEDDED_FANOUTS)),
        model=ModelFile(model, list_inputs(EMBEDDED_RELATIONS), ("scores",)),
        dataset=NodeDataset(graph, "digit", nodes, EMBEDDED_FANOUTS),
        reference=manifest["reference"],
        labels=labels,
        classes=EMBEDDED_CLASSES,
    )


def open_official(scratch: Path | None) -> NodeWorkload:
    """Open IGBH-Full in the scratch folder, once it is preprocessed.

    Features and edges are mapped, not read; the ends of all edges are checked. The
    digest covers the model and the nodes that are asked for; the graph, 2 TB, is
    covered by name only. Raises ``RequirementMissing`` for what is absent.
    """
    folder = igbh.find_folder(scratch)
    names = [name for _, name, _ in igbh.list_relations()]
    needed = [igbh.GRAPH, igbh.NODES, *(f"{name}.sources.npy" for name in names)]
    if folder is None:
        absent = [source.label for source in SOURCES if source.find(scratch) is None]
        raise missing_files("rgat", absent, SOURCES, scratch, files.USE_EMBEDDED)
    ready = folder / igbh.READY
    if missing := [name for name in needed if not (ready / name).is_file()]:
        raise RequirementMissing(
            f"rgat official: {missing[0]} and {len(missing) - 1} other files are not in"
            f" {ready}; run pytest-mlperf data preprocess rgat --scratch {scratch}"
        )
    nodes = np.load(ready / igbh.NODES)
    labels = igbh.map_numbers(folder / "paper" / "node_label_2K.npy", 1)
    graph = igbh.read_graph(folder)
    model = ready / igbh.GRAPH
    return NodeWorkload(
        kind="official",
        title=f"R-GAT, IGBH-Full ({len(nodes):,} nodes of validation)",
        digest=files_digest([model, ready / igbh.NODES], repr(igbh.FANOUTS)),
        model=ModelFile(model, list_inputs(names), ("scores",)),
        dataset=NodeDataset(graph, "paper", nodes, igbh.FANOUTS),
        reference={},
        labels=np.asarray(labels[nodes], np.int64),
        classes=igbh.CLASSES,
    )


@dataclass(frozen=True, slots=True)
class RgatBenchmark:
    """The benchmark as it registers itself."""

    name: str = "rgat"
    aliases: tuple[str, ...] = ("r-gat",)
    metric: str = "acc"
    takes: frozenset[str] = frozenset({"tensors"})
    rules: tuple[Rule, ...] = ()
    sources: tuple[Source, ...] = SOURCES
    preprocessing: Preprocessing = igbh.PREPROCESSING

    def precision(self, target: str) -> str:  # noqa: ARG002 - one target
        """Return fp32: the gathers cost more than the products."""
        return "fp32"

    def open_workload(self, kind: str, scratch: Path | None) -> NodeWorkload:
        """Open ``embedded`` or ``official``.

        Raises ``RequirementMissing`` for absent files, ``ValueError`` for wrong files
        or another kind.
        """
        if kind == "embedded":
            return open_embedded()
        if kind == "official":
            return open_official(scratch)
        if kind == "generated":
            raise RequirementMissing(
                "rgat has no generated workload: sampling a graph of 2 TB is its time;"
                " choose --mlperf-workload embedded"
            )
        raise files.unknown_kind(self.name, kind, "official", "embedded")


RGAT = RgatBenchmark()
