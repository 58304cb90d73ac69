"""A checkpoint of facebookresearch/dlrm becomes the workload's files."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_mlperf.benchmarks.recommender.convert import main

SIZES, DIMENSION, PAIRS = (50, 3, 20), 8, 7

if importlib.util.find_spec("torch") is None:
    pytest.skip("needs torch", allow_module_level=True)


def make_mlp(*widths: int, ends: Any) -> Any:
    """Return linear layers with an activation behind each, as DLRM_Net has them."""
    import torch

    modules: list[Any] = []
    for width, following in itertools.pairwise(widths):
        modules += [torch.nn.Linear(width, following), torch.nn.ReLU()]
    modules[-1] = ends
    return torch.nn.Sequential(*modules)


def test_the_files_compute_what_the_model_computes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dot interaction, lower triangle row by row, behind the bottom MLP's output."""
    import onnxruntime
    import torch

    count = len(SIZES) + 1
    model = torch.nn.Module()
    model.emb_l = torch.nn.ModuleList(
        torch.nn.EmbeddingBag(size, DIMENSION, mode="sum") for size in SIZES
    )
    model.bot_l = make_mlp(5, 16, DIMENSION, ends=torch.nn.ReLU())
    interacted = DIMENSION + count * (count - 1) // 2
    model.top_l = make_mlp(interacted, 12, 1, ends=torch.nn.Sigmoid())
    torch.save({"state_dict": model.state_dict(), "nepochs": 1}, tmp_path / "tb.pt")
    random = np.random.default_rng(1)
    numbers = random.random((PAIRS, 5), np.float32)
    keys = np.stack([random.integers(0, size, PAIRS) for size in SIZES], axis=1)

    status = main([str(tmp_path / "tb.pt"), str(tmp_path / "made"), "fp32"])

    with torch.no_grad():
        bottom = model.bot_l(torch.from_numpy(numbers))
        vectors = [
            table(torch.from_numpy(keys[:, n : n + 1]))
            for n, table in enumerate(model.emb_l)
        ]
        features = torch.stack([bottom, *vectors], 1)
        dots = features @ features.transpose(1, 2)
        below = [dots[:, i, j] for i in range(count) for j in range(i)]
        joined = torch.cat([bottom, torch.stack(below, 1)], 1)
        expected = model.top_l(joined).reshape(-1).numpy()
    rows = np.load(tmp_path / "made/tables.npy")
    starts = np.cumsum((0, *SIZES[:-1]))
    session = onnxruntime.InferenceSession(tmp_path / "made/dense.onnx")
    feeds = {"dense": numbers, "embeddings": rows[keys + starts]}
    (scores,) = session.run(["scores"], feeds)

    assert (status, rows.shape) == (0, (sum(SIZES), DIMENSION))
    assert scores == pytest.approx(expected, abs=1e-6)
    assert "dense.onnx, tables.npy" in capsys.readouterr().out


def test_what_is_no_checkpoint_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line."""
    (tmp_path / "tb.pt").write_bytes(b"nothing")

    status = main([str(tmp_path / "tb.pt"), str(tmp_path / "made")])

    assert status == 1
    assert "should be tb00_40M.pt of MLCommons' dlrm" in capsys.readouterr().err
