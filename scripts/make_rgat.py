"""Make the embedded rgat again: an R-GAT, and a graph of handwritten digits.

    pip install -e '.[onnxruntime]' torch scikit-learn==1.9.1
    OMP_NUM_THREADS=1 python scripts/make_rgat.py

Data: the 1,797 digits of scikit-learn (BSD), 8 x 8 pixels each. An edge goes from each
of a digit's nearest neighbors to it, and back: by all pixels (``alike``), and by the
sums of rows and columns (``same_profile``). 360 digits are for training, the others for
evaluation. The script records the accuracy of the shipped file in fp32, through the
package's own code, and every sha256.
"""

from __future__ import annotations

from typing import Any

import embedded_model
import numpy as np

from pytest_mlperf.benchmarks import rgat
from pytest_mlperf.benchmarks.graph.hetero_graph import compress_edges
from pytest_mlperf.benchmarks.graph.rgat_model import Attention
from pytest_mlperf.benchmarks.graph.rgat_model import RgatWeights
from pytest_mlperf.benchmarks.graph.rgat_model import write_rgat

OUT = embedded_model.EMBEDDED / "rgat"
RELATIONS = ("alike", "same_profile")
NEIGHBORS, TRAINING, STEPS, SEED = 6, 360, 150, 0
HEADS, UNITS, LAYERS = 4, 8, 3


def make_edges(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and sources of the neighbors' graph, both ways, without copies."""
    from sklearn.neighbors import kneighbors_graph

    near = kneighbors_graph(features, NEIGHBORS).toarray() > 0
    target, source = np.nonzero(near | near.T)
    starts, sources = compress_edges(source, target, len(features))
    return starts.astype(np.int32), sources.astype(np.int16)


def make_model(width: int) -> Any:
    import torch
    from torch import nn
    from torch.nn import functional

    class Layer(nn.Module):
        def __init__(self, into: int) -> None:
            super().__init__()
            size = HEADS * UNITS
            self.weight = nn.ParameterList(
                nn.Parameter(nn.init.xavier_uniform_(torch.empty(into, size)))
                for _ in RELATIONS
            )
            for name in ("source", "target"):
                values = [torch.randn(HEADS, UNITS) * 0.3 for _ in RELATIONS]
                setattr(self, name, nn.ParameterList(map(nn.Parameter, values)))
            self.bias = nn.ParameterList(
                nn.Parameter(torch.zeros(size)) for _ in RELATIONS
            )

        def forward(self, x: Any, edges: Any) -> Any:
            total = 0
            for number, (source, target) in enumerate(edges):
                h = (x @ self.weight[number]).view(len(x), HEADS, UNITS)
                from_source = (h * self.source[number]).sum(-1)[source]
                to_target = (h * self.target[number]).sum(-1)[target]
                e = functional.leaky_relu(from_source + to_target, 0.2)
                e = (e - e.max()).exp()
                sums = torch.zeros(len(x), HEADS).index_add(0, target, e)
                share = (e / sums[target])[..., None]
                out = torch.zeros_like(h).index_add(0, target, share * h[source])
                total = total + out.flatten(1) + self.bias[number]
            return total

    class SmallRgat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            size = HEADS * UNITS
            widths = [width] + [size] * (LAYERS - 1)
            self.layers = nn.ModuleList(Layer(one) for one in widths)
            self.head = nn.Linear(size, 10)

        def forward(self, x: Any, edges: Any) -> Any:
            for number, layer in enumerate(self.layers):
                x = layer(x, edges)
                if number < LAYERS - 1:
                    x = functional.dropout(functional.leaky_relu(x), 0.2, self.training)
            return self.head(x)

    return SmallRgat()


def train(pixels: np.ndarray, labels: np.ndarray, graphs: Any, chosen: Any) -> Any:
    import torch
    from torch.nn import functional

    torch.manual_seed(SEED)
    model = make_model(pixels.shape[1])
    x, y = torch.tensor(pixels, dtype=torch.float32), torch.tensor(labels)
    edges = []
    for starts, sources in graphs:
        target = np.repeat(np.arange(len(pixels)), np.diff(starts))
        edges.append((torch.tensor(sources.astype(int)), torch.tensor(target)))
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3, weight_decay=5e-3)
    training = embedded_model.Training(optimizer, every=25)
    for _ in range(STEPS):
        loss = functional.cross_entropy(model(x, edges)[chosen], y[chosen])
        training.take_step(loss)
    return model.eval()


def read_weights(model: Any) -> RgatWeights:
    def numbers(tensor: Any) -> np.ndarray:
        return tensor.detach().numpy().astype(np.float32)

    layers = tuple(
        {
            relation: Attention(
                *(
                    numbers(getattr(layer, part)[number])
                    for part in ("weight", "source", "target", "bias")
                )
            )
            for number, relation in enumerate(RELATIONS)
        }
        for layer in model.layers
    )
    return RgatWeights(layers, numbers(model.head.weight).T, numbers(model.head.bias))


def main() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels, labels = digits.data.astype(np.uint8), digits.target.astype(np.int64)
    images = digits.data.reshape(-1, 8, 8)
    profiles = np.concatenate([images.sum(1), images.sum(2)], 1)
    graphs = [make_edges(digits.data), make_edges(profiles)]
    order = np.random.default_rng(SEED).permutation(len(pixels))
    model = train(pixels / 16, labels, graphs, order[:TRAINING])
    OUT.mkdir(parents=True, exist_ok=True)
    write_rgat(OUT / "model.onnx", read_weights(model))
    arrays = {"pixels": pixels, "labels": labels.astype(np.uint8)}
    arrays["evaluation"] = np.sort(order[TRAINING:]).astype(np.int16)
    for name, (starts, sources) in zip(RELATIONS, graphs, strict=True):
        arrays[f"{name}.starts"], arrays[f"{name}.sources"] = starts, sources
    np.savez_compressed(OUT / "graph.npz", **arrays)
    manifest = {
        "sha256": embedded_model.hash_files(OUT, ("model.onnx", "graph.npz")),
        "reference": {"acc": 0.0},
    }

    def score() -> dict[str, float]:
        return {"acc": embedded_model.score_samples(rgat.open_embedded())["acc"]}

    embedded_model.write_scored_manifest(OUT / "manifest.json", manifest, score)


if __name__ == "__main__":
    main()
