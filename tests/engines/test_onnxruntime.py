"""What the onnxruntime engine does beyond running a session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.api import registry
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import WritesOnnx
from pytest_mlperf.benchmarks.standins import generated
from pytest_mlperf.benchmarks.standins.graphs import BertSize
from pytest_mlperf.engines.onnxruntime import stack_padded


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1))
def test_arrays_of_different_lengths_are_stacked(shapes: list[tuple[int, int]]) -> None:
    """Each keeps its numbers; what is added is zero."""
    arrays = [np.full(shape, 7, np.int32) for shape in shapes]
    stacked = stack_padded(arrays)

    assert stacked.dtype == np.int32
    assert len(stacked) == len(arrays)
    for row, array in zip(stacked, arrays, strict=True):
        height, width = array.shape
        assert (row[:height, :width] == array).all()
        assert row.sum() == array.sum()


def test_weights_beside_a_model_go_into_its_build_and_its_export(
    tmp_path: Path,
) -> None:
    """As generated models and large official ones have them."""
    size = BertSize(1, 16, 32, heads=1, vocabulary=1500, positions=384)
    workload = generated.open_bert(size, 2, tmp_path / "made")
    provider = registry.load("engine", "onnxruntime")
    build = provider.build(BuildRequest(workload, "fp32", tmp_path / "cache"))
    export = tmp_path / "export" / "model.onnx"
    export.parent.mkdir()
    writer: object = provider
    assert isinstance(writer, WritesOnnx)
    assert workload.model is not None
    writer.write_onnx(workload.model, "fp32", export)
    workload.dataset.load([0])
    batch = workload.dataset.gather([0])
    engine = provider.open(build, 1)
    built = engine.infer(batch, 1)
    session = onnxruntime.InferenceSession(export)
    exported = session.run(["start_logits", "end_logits"], dict(batch))

    assert any((tmp_path / "made").glob("*.weights"))
    np.testing.assert_allclose(built, exported, atol=1e-5)
