"""Requests and answers of KServe v2 as bytes: whatever goes in comes out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pytest_mlperf.api.errors import BadAnswer
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.workload import ArrayDataset
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.services.kserve.requests import TensorRequests
from pytest_mlperf.services.kserve.shared_memory import RequestRegion
from pytest_mlperf.services.kserve.tensors import DATATYPES
from pytest_mlperf.services.kserve.tensors import AnswerLayouts
from pytest_mlperf.services.kserve.tensors import OutputReader
from pytest_mlperf.services.kserve.tensors import ReceiveTimes
from pytest_mlperf.services.kserve.tensors import encode_json_request
from pytest_mlperf.services.kserve.tensors import encode_request

TENSORS = st.sampled_from(sorted(DATATYPES)).flatmap(
    lambda name: arrays.arrays(
        np.dtype(name),
        arrays.array_shapes(max_dims=3, max_side=4).map(lambda s: (2, *s)),
    )
)


def split_request(request: bytes) -> tuple[bytes, bytes]:
    """Return a request's JSON head, and the arrays' bytes."""
    fields, _, body = request.partition(b"\r\n\r\n")
    size = int(fields.partition(b"Inference-Header-Content-Length: ")[2].split()[0])
    assert f"Content-Length: {len(body)}".encode() in fields
    return body[:size], body[size:]


def answer_with(request: bytes) -> bytes:
    """Return an answer that echoes a request's inputs as outputs."""
    head, data = split_request(request)
    return json.dumps({"outputs": json.loads(head)["inputs"]}).encode() + data


@given(st.lists(TENSORS, min_size=1, max_size=3), st.integers(1, 5))
def test_an_echoed_request_is_the_batch(found: list[Array], cut: int) -> None:
    """Of every type and shape, however the answer arrives in pieces."""
    batch = {f"tensor {place}": array for place, array in enumerate(found)}
    names = list(batch)[::-1]
    body = answer_with(encode_request(batch, names))
    layouts = AnswerLayouts(names, rows=2)
    for _ in range(2):  # the second time its head is known
        reader = OutputReader(layouts, ReceiveTimes())
        for at in range(0, len(body), len(body) // cut + 1):
            assert not reader.feed(body[at : at + len(body) // cut + 1])
        outputs = reader.finish().outputs
        assert outputs is not None
        for name, array in zip(names, outputs, strict=True):
            assert array.dtype == batch[name].dtype
            assert array.shape == batch[name].shape
            assert array.tobytes() == batch[name].tobytes()


@given(TENSORS)
def test_numbers_survive_as_text(array: Array) -> None:
    """Of every type but those of JSON's lack: infinity and NaN."""
    assume(array.dtype.kind != "f" or bool(np.isfinite(array).all()))
    request = encode_json_request({"x": array}, ["x"])
    document = json.loads(request.partition(b"\r\n\r\n")[2])
    body = json.dumps({"outputs": document["inputs"]}).encode()
    (found,) = AnswerLayouts(["x"], rows=2, is_binary=False).decode(body)

    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tolist() == array.tolist()


def test_text_that_is_no_answer_is_named() -> None:
    """Also where the numbers should be text."""
    with pytest.raises(BadAnswer, match="should be a KServe v2 answer"):
        AnswerLayouts(["x"], is_binary=False).decode(b"oops")


def test_without_names_the_models_own_outputs_are_asked_for() -> None:
    """All of them, as binary."""
    request = encode_request({"x": np.zeros((1, 2), np.float32)}, ())

    head, data = split_request(request)
    assert json.loads(head)["parameters"] == {"binary_data_output": True}
    assert len(data) == 8


def test_a_request_of_more_samples_than_there_are_repeats_them() -> None:
    """With none at all, what sends requests would wait for ever."""
    dataset = ArrayDataset({"x": np.arange(3, dtype=np.float32)[:, None]}, 3)
    requests = TensorRequests(dataset, ("y",), size=5)

    assert (requests.total, requests.performance_count) == (1, 1)
    assert requests.gather(0)["x"].ravel().tolist() == [0, 1, 2, 0, 1]


def test_a_type_that_the_protocol_lacks_is_named() -> None:
    """Complex numbers, for one."""
    with pytest.raises(ValueError, match="complex64, but KServe v2 has BOOL"):
        encode_request({"x": np.zeros((1, 2), np.complex64)}, ())


def make_body(data: bytes = b"\0" * 8, **changes: object) -> bytes:
    output = {
        "name": "y", "datatype": "FP32", "shape": [1, 2],
        "parameters": {"binary_data_size": 8}, **changes,
    }  # fmt: skip
    return json.dumps({"outputs": [output]}).encode() + data


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "should be a KServe v2 answer"),
        (b"\x00\xff\x17 garbage", "should be a KServe v2 answer"),
        (b"[]", "an answer without outputs"),
        (b'{"error":"out of memory"}', "the error 'out of memory'"),
        (b'{"outputs":[]}', "an answer without outputs"),
        (b'{"outputs":[7]}', "should have name, datatype and shape"),
        (make_body(datatype="BYTES"), "output y of BYTES"),
        (make_body(parameters={}), "as JSON, but binary was asked for"),
        (make_body(b"\0" * 4), "4 bytes of outputs, but their head says 8"),
        (make_body(b"\0" * 9), "9 bytes of outputs, but their head says 8"),
        (make_body(shape=[1, 3]), r"of 8 bytes, but FP32 \[1, 3\] has 12"),
        (make_body(shape=[2, 1]), r"shape \[2, 1\], but should have 1 rows"),
        (make_body(shape=[-1, -2]), "of 8 bytes, but FP32"),
        (make_body(shape=[1, -1, -2]), "of 8 bytes, but FP32"),
        (make_body(name="z"), "should also have y"),
    ],
)
def test_a_malformed_answer_says_what_is_wrong(body: bytes, problem: str) -> None:
    """And a well-formed one is read."""
    layouts = AnswerLayouts(["y"])
    (array,) = layouts.decode(make_body())

    assert array.tolist() == [[0.0, 0.0]]
    with pytest.raises(BadAnswer, match=problem):
        layouts.decode(body)


def test_an_output_is_read_where_the_server_wrote_it() -> None:
    """A copy of it; one that is larger than its room is no answer."""
    rooms = {"y": memoryview(bytearray(np.arange(4, dtype=np.float32).tobytes()))}
    body = b'{"outputs":[{"name":"y","datatype":"FP32","shape":[1,%d]}]}'
    layouts = AnswerLayouts(["y"])
    (found,) = layouts.decode(body % 3, rooms)
    rooms["y"][:] = bytes(16)

    assert found.tolist() == [[0, 1, 2]]
    with pytest.raises(BadAnswer, match="20 bytes, but its room"):
        layouts.decode(body % 5, rooms)


def test_memory_that_lacks_is_said_before_the_run() -> None:
    """Instead of a signal in the middle of a write."""
    specs = [{"name": "y", "datatype": "FP32", "shape": [-1, 1 << 50]}]
    with pytest.raises(RunRefused, match="no room for"):
        RequestRegion([], {0: {"x": np.zeros((1, 2), np.float32)}}, specs)
