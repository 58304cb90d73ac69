"""GGUF files: read, and written again in half precision or with eight bits."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_mlperf.services.local import gguf

STRING, ARRAY, U32 = 8, 9, 4
SCALE, SHIFT = 0.5, -2.0


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def q4_1(codes: NDArray[np.uint8]) -> bytes:
    """Return blocks of 32 codes of 0 to 15, each scaled and shifted."""
    found = b""
    for block in codes.reshape(-1, 32):
        packed = (block[:16] | block[16:] << 4).astype(np.uint8)
        found += np.array([SCALE, SHIFT], "<f2").tobytes() + packed.tobytes()
    return found


def model(tensors: list[tuple[str, tuple[int, ...], int, bytes]]) -> bytes:
    """Return a small GGUF file with these tensors and some key-values."""
    values = [
        text("general.architecture") + struct.pack("<I", STRING) + text("llama"),
        text("general.file_type") + struct.pack("<II", U32, 3),
        text("words")
        + struct.pack("<IIQ", ARRAY, STRING, 2)
        + text("a")
        + text("longer"),
        text("numbers") + struct.pack("<IIQ3i", ARRAY, 5, 3, 1, 2, 3),
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    described, data = b"", b""
    for name, shape, kind, raw in tensors:
        described += text(name) + struct.pack("<I", len(shape))
        described += struct.pack(f"<{len(shape)}Q", *shape)
        described += struct.pack("<IQ", kind, len(data))
        data += raw + bytes(-len(raw) % 32)
    top = head + b"".join(values) + described
    return top + bytes(-len(top) % 32) + data


def rewritten(
    data: bytes, folder: Path, kind: int = gguf.F16
) -> tuple[bytes, gguf.ModelLayout]:
    source, target = folder / "small.gguf", folder / "again.gguf"
    source.write_bytes(data)
    gguf.rewrite_model(source, target, kind)
    found = target.read_bytes()
    return found, gguf.read_layout(found)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(codes=st.lists(st.integers(0, 15), min_size=64, max_size=64))
def test_q4_1_weights_keep_their_values_and_places(
    codes: list[int], tmp_path: Path
) -> None:
    """Weight i of a block is code i, scaled and shifted; half precision holds it."""
    wanted = np.array(codes, np.uint8)
    data, layout = rewritten(model([("w", (32, 2), gguf.Q4_1, q4_1(wanted))]), tmp_path)
    one = layout.tensors[0]

    assert one.kind == gguf.F16
    assert (wanted * SCALE + SHIFT).tolist() == gguf.read_weights(
        data, layout, one
    ).tolist()


def test_q8_0_weights_keep_their_values(tmp_path: Path) -> None:
    """Eight-bit codes are signed, with one scale a block."""
    codes = np.arange(-16, 16, dtype=np.int8)
    raw = np.array([0.25], "<f2").tobytes() + codes.tobytes()
    data, layout = rewritten(model([("w", (32, 1), gguf.Q8_0, raw)]), tmp_path)

    assert (codes * 0.25).tolist() == gguf.read_weights(
        data, layout, layout.tensors[0]
    ).tolist()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    values=st.lists(
        st.floats(-8, 8, width=16, allow_subnormal=False), min_size=64, max_size=64
    )
)
def test_eight_bits_hold_a_weight_to_a_share_of_its_blocks_largest(
    values: list[float], tmp_path: Path
) -> None:
    """Half a step of 1/127 of the largest, and what a half-precision scale rounds."""
    wanted = np.array(values, "<f2")
    tensor = ("w", (32, 2), gguf.F16, wanted.tobytes())
    data, layout = rewritten(model([tensor]), tmp_path, gguf.Q8_0)
    (one,) = layout.tensors
    found = gguf.read_weights(data, layout, one).reshape(2, 32)
    largest = np.abs(wanted.astype(np.float32)).reshape(2, 32).max(axis=1)
    error = np.abs(found - wanted.reshape(2, 32)).max(axis=1)

    assert one.kind == gguf.Q8_0
    assert (error <= largest * (0.5 / 127 + 2**-10) + 2**-17).all()


def test_rows_that_no_block_fits_become_half(tmp_path: Path) -> None:
    """llama.cpp refuses a row that is no whole number of blocks."""
    odd = ("w", (24, 2), gguf.F16, np.ones(48, "<f2").tobytes())
    _, layout = rewritten(model([odd]), tmp_path, gguf.Q8_0)

    assert layout.tensors[0].kind == gguf.F16


def test_vectors_stay_in_full_precision_and_matrices_become_half(
    tmp_path: Path,
) -> None:
    """Norms are small and exact; the file stays one that llama.cpp reads."""
    norm = np.array([1.0, 1.0 + 2**-20], "<f4")
    half = np.array([[1.5, 2.5]], "<f2")
    data, layout = rewritten(
        model(
            [
                ("norm", (2,), gguf.F32, norm.tobytes()),
                ("w", (2, 1), gguf.F16, half.tobytes()),
            ]
        ),
        tmp_path,
    )
    read = [gguf.read_weights(data, layout, one).tolist() for one in layout.tensors]

    assert [one.kind for one in layout.tensors] == [gguf.F32, gguf.F16]
    assert [norm.tolist(), half.ravel().tolist()] == read
    assert [(layout.data + one.offset) % 32 for one in layout.tensors] == [0, 0]


def test_key_values_are_copied_and_the_file_type_says_half(tmp_path: Path) -> None:
    """Vocabulary and template decide the answers as much as the weights do."""
    before = model([("w", (32, 1), gguf.Q4_1, q4_1(np.zeros(32, np.uint8)))])
    data, layout = rewritten(before, tmp_path)
    old = gguf.read_layout(before)
    (kind,) = struct.unpack_from("<I", data, layout.values[b"general.file_type"])
    changed = [
        i
        for i, (a, b) in enumerate(
            zip(
                before[slice(*old.metadata)], data[slice(*layout.metadata)], strict=True
            )
        )
        if a != b
    ]

    assert gguf.FILE_TYPES[gguf.F16] == kind
    assert len(changed) == 1


GOOD = model([("w", (32, 1), gguf.Q4_1, q4_1(np.zeros(32, np.uint8)))])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04" + GOOD[4:], "begins with"),
        (GOOD[:4] + struct.pack("<I", 2) + GOOD[8:], "version 2"),
        (GOOD[:60], "bytes|header"),
        (GOOD[:-40], "beyond the file's end"),
        (model([("w", (32, 1), 12, bytes(20))]), "type 12"),
    ],
)
def test_a_damaged_model_is_refused_by_name_and_leaves_nothing(
    data: bytes, words: str, tmp_path: Path
) -> None:
    """A cut download must not become a cached model."""
    source, target = tmp_path / "bad.gguf", tmp_path / "out.gguf"
    source.write_bytes(data)

    with pytest.raises(gguf.BadModel, match=rf"bad\.gguf.*({words})"):
        gguf.rewrite_model(source, target, gguf.F16)
    assert list(tmp_path.iterdir()) == [source]
