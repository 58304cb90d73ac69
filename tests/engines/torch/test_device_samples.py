"""Samples kept on a device; PyTorch's CPU stands in for it, with the same calls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.api.device_dataset import DeviceDataset
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.workload import ArrayDataset
from pytest_mlperf.engines.torch import packing
from pytest_mlperf.engines.torch.device_samples import RowStore
from pytest_mlperf.engines.torch.device_samples import TokenStore
from pytest_mlperf.engines.torch.device_samples import TorchOutputs
from pytest_mlperf.engines.torch.device_samples import as_picked
from pytest_mlperf.engines.torch.device_samples import make_mask
from pytest_mlperf.engines.torch.device_samples import view_as_words

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
NAMES = ("ids", "mask", "token_types")


def sequences(lengths: list[int], width: int) -> ArrayDataset:
    """Return made-up sequences of these lengths, padded to one width."""
    random = np.random.default_rng(len(lengths))
    shape = (len(lengths), width)
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int64)
    ids = random.integers(1, 1000, shape) * mask
    token_types = random.integers(0, 2, shape) * mask
    arrays = {"ids": ids, "mask": mask, "token_types": token_types}
    return ArrayDataset(arrays, len(lengths))


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=12),
    data=st.data(),
)
def test_a_layout_made_on_the_device_is_the_hosts(
    lengths: list[int], data: st.DataObject
) -> None:
    """Tokens, places, token_types and block map, whatever was in the buffer before."""
    dataset = sequences(lengths, 90)
    library = DeviceDataset(dataset, store := TokenStore(NAMES, device="cpu"))
    library.load(list(range(len(lengths))))
    chosen = data.draw(
        st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=9)
    )
    batch = dataset.gather(chosen)
    counts = np.array([lengths[i] for i in chosen], np.int32)
    (chunk,) = packing.cut_chunks(counts, 4096)
    bucket = packing.find_bucket(chunk, packing.choose_buckets(4096))
    wanted = np.full(packing.flat_size(bucket), 7, np.int32)
    ids, mask, token_types = (batch[name] for name in NAMES)
    packing.lay_out(ids, mask, token_types, counts, wanted, bucket)
    staged = torch.full((packing.flat_size(4096),), 9, dtype=torch.int32)
    flat = torch.full((packing.flat_size(4096),), 8, dtype=torch.int32)
    there = as_picked(library.gather(chosen))
    assert there is not None
    store.lay_out(there.rows, staged, staged.numpy(), flat, bucket)

    assert flat[: packing.flat_size(bucket)].tolist() == wanted.tolist()
    assert (make_mask(counts) == batch["mask"][:, : counts.max()].astype(bool)).all()


@pytest.mark.parametrize("kind", [np.int8, np.float32, np.uint8])
@pytest.mark.parametrize("shape", [(3, 5, 7), (4, 4), (8,)])
def test_rows_are_gathered_by_index(
    kind: type[np.generic], shape: tuple[int, ...]
) -> None:
    """In any order, more than once, into the first rows of what a batch runs in."""
    random = np.random.default_rng(5)
    arrays = {"x": (random.random((600, *shape)) * 200 - 100).astype(kind)}
    library = DeviceDataset(ArrayDataset(arrays, 600), store := RowStore("cpu"))
    library.load(order := random.permutation(600).tolist())
    place = torch.zeros((8, *shape), dtype=torch.from_numpy(arrays["x"][:1]).dtype)
    there = as_picked(library.gather([5, 599, 5, 0]))
    assert there is not None
    store.fetch(there.rows, {"x": place})

    assert (arrays["x"][[5, 599, 5, 0]] == place[:4].numpy()).all()
    assert not place[4:].any()
    assert sorted(order) == list(range(600))
    assert library.type_bytes == np.dtype(kind).itemsize


def test_pictures_are_moved_eight_bytes_at_a_time() -> None:
    """A row's bytes are an integer's width times a count; odd ones go byte by byte."""
    pictures = torch.zeros((2, 224, 224, 3), dtype=torch.int8)

    assert (
        tuple(view_as_words(pictures).shape),
        view_as_words(pictures).dtype,
    ) == ((2, 18_816), torch.int64)
    assert tuple(view_as_words(torch.zeros((2, 5), dtype=torch.int8)).shape) == (2, 5)


def test_samples_of_several_shapes_are_refused() -> None:
    """The words say which, and which option to leave away."""

    class Growing(ArrayDataset):
        def gather(self, indices):  # type: ignore[no-untyped-def]
            return {"x": np.zeros((len(indices), 1 + indices[0]), np.float32)}

    dataset = Growing({"x": np.zeros((600, 1), np.float32)}, 600)
    with pytest.raises(BuildFailed, match=r"'x': \(1,\).*--mlperf-start-from-device"):
        DeviceDataset(dataset, RowStore("cpu")).load(list(range(600)))


def test_a_mask_with_holes_is_refused() -> None:
    """Sequences are known by their length alone."""
    dataset = sequences([5, 6], 8)
    dataset.arrays["mask"][1, 2] = 0
    with pytest.raises(BuildFailed, match="mask leaves tokens out in the middle"):
        DeviceDataset(dataset, TokenStore(NAMES, device="cpu")).load([0, 1])


def test_outputs_are_copied_when_they_are_wanted() -> None:
    """As float32, without the rows that padded the batch."""
    values = torch.arange(8, dtype=torch.float16).reshape(4, 2)
    (found,) = TorchOutputs([values], 3).fetch()

    assert found.dtype == np.dtype(np.float32)
    assert found.shape == (3, 2)
    assert found[2].tolist() == [4.0, 5.0]
