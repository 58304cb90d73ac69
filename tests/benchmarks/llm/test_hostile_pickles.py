"""Pickles that were made to do something: none is more than data, or is refused."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.benchmarks.llm.frame_process import PROGRAM
from pytest_mlperf.benchmarks.llm.tables import read_table
from tests.support import pickles
from tests.support.pickles import Call
from tests.support.pickles import Name
from tests.support.pickles import Raw

POINTER = (id(sys) + 1).to_bytes(8, "little")
"""Eight bytes that an array of objects would follow."""


def cell(value: Any) -> bytes:
    """Return a frame with one cell."""
    return pickles.write_pickle(pickles.make_cells({"x": [value]}))


def block(values: Any, places: Any = None) -> bytes:
    """Return a frame with one column, of these values."""
    where = places or pickles.make_slice(0, 1, 1)
    frame = pickles.make_frame(["x"], [pickles.make_block(values, where)])
    return pickles.write_pickle(frame)


def program(path: str, *args: Any, opcode: bytes = b"R") -> bytes:
    """Return a pickle that calls a function."""
    return pickles.write_pickle(Call(path, args, opcode=opcode))


def double(times: int) -> Raw:
    """Return a list of two of a list of two of …: 2 ** times values."""
    code = b"]q\0"
    for _ in range(times):
        code = b"](" + code + b"h\0eq\0"
    return Raw(code)


def repeat(text: str, times: int) -> Raw:
    """Return a list of one text, many times."""
    body = pickles.write(text) + b"q\1"
    return Raw(b"](" + body + b"h\1" * times + b"e")


def nest(depth: int) -> Raw:
    return Raw(b"]" * depth + b"a" * (depth - 1))


FRAMES = Path(__file__).parents[2] / "data" / "frames"
"""Written by ``DataFrame.to_pickle`` of the release in the name."""
MARK = "MARK"
"""Stands for a folder that the pickle would make."""
NUMBER = pickles.make_dtype("i8")
SHORT = struct.pack("<q", 7)
REFUSED: dict[str, tuple[bytes, str]] = {
    "a command": (program("posix system", f"mkdir {MARK}"), "names posix.system"),
    "a function": (program("os mkdir", MARK), "names os.mkdir"),
    "eval": (program("builtins eval", f"__import__('os').mkdir('{MARK}')"),
             "names builtins.eval"),
    "getattr": (program("builtins getattr", Name("numpy ndarray"), "__init__"),
                "names builtins.getattr"),
    "an attribute's attribute": (
        b"\x80\x04" + pickles.write("pandas") + pickles.write("DataFrame.eval")
        + b"\x93" + pickles.write(("1",)) + b"R.", r"names pandas\.DataFrame\.eval"),
    "another pickle": (program("pandas read_pickle", MARK), "names pandas.read_pickle"),
    "the old way": (b"(S'mkdir MARK'\nios\nsystem\n.", "names os.system"),
    "copyreg": (program("copyreg _reconstructor", Name("numpy ndarray"), None, None),
                "names copyreg"),
    "numpy's other functions": (program("numpy.core.multiarray fromstring", b"x"),
                                "names numpy.core.multiarray.fromstring"),
    "numpy loads files": (program("numpy load", MARK), "names numpy.load"),
    "an extension": (b"\x80\x04\x82\x01.", "unregistered extension code"),
    "somebody else's object": (b"\x80\x04" + pickles.write(MARK) + b"Q.",
                               "persistent id"),
    "a pointer": (block(pickles.make_array(POINTER, (1, 1))), "would be pointers"),
    "a pointer in a cell": (cell(pickles.make_array(POINTER, (1,))), "be pointers"),
    "a pointer in a buffer": (block(pickles.make_buffer(POINTER, (1, 1), "O8")),
                              "would be pointers"),
    "a pointer in a bytearray": (
        block(pickles.make_buffer(Call("builtins bytearray", (POINTER,)), (1, 1), "O")),
        "would be pointers"),
    "a pointer as a text": (
        block(pickles.make_array(Call("_codecs encode", ("\0" * 8, "latin1")), (1, 1))),
        "would be pointers"),
    "a pointer as a scalar": (
        cell(Call("numpy.core.multiarray scalar", (pickles.make_dtype("O8"), POINTER))),
        "would be pointers"),
    "ndarray called": (
        block(Call("numpy ndarray", ((1, 1), pickles.make_dtype("O8"), POINTER))),
        "holds a ndarray where"),
    "ndarray made": (
        block(Call("numpy ndarray", ((1, 1), NUMBER, SHORT), opcode=b"\x81")),
        "holds a ndarray where"),
    "a structure with objects": (
        block(pickles.make_array(POINTER, (1, 1), "V8")), "not of objects or numbers"),
    "more numbers than bytes": (
        block(pickles.make_array(SHORT, (1, 1000), "i8")), "1000 <i8 in 8 bytes"),
    "fewer objects than the shape": (
        block(pickles.make_array([1], (1, 9))), "9 objects in a list of 1"),
    "a negative shape": (
        block(pickles.make_array(SHORT, (-1, -1), "i8")), "of the shape"),
    "a shape of no numbers": (
        block(pickles.make_array(SHORT, ("1", 1), "i8")), "of the shape"),
    "a shape without an end": (
        cell(pickles.make_array(b"", (1 << 62, 0), "i8")), "memory|too large"),
    "columns that are not there": (
        block(pickles.make_array([1], (1, 1)),
              pickles.make_array(struct.pack("<q", -5), (1,), "i8")),
        "places that are not there"),
    "a codec that unpacks": (
        block(pickles.make_array(Call("_codecs encode", ("x", "zlib")), (1, 1), "i8")),
        "codec 'zlib'"),
    "a lot of memory by its size": (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0f.",
                                    "memory|exceeds|truncated|end"),
    "a lot of memory by a memo": (b"\x80\x04]r\xff\xff\xff\x7f.", "memory|a list"),
    "a lot of memory by a call": (
        block(pickles.make_array(Call("builtins bytearray", (1 << 60,)), (1, 1), "i8")),
        "holds a int where"),
    "lists that double": (cell(double(60)), "more values than"),
    "a text over and over": (cell(repeat("x" * 1_000_000, 50_000)), "more values than"),
    "a list in itself": (cell(Raw(b"]q\0h\0a")), "without an end"),
    "lists in lists": (cell(nest(200_000)), "without an end"),
    "a state for a name": (
        pickles.write_pickle(Raw(Name("numpy ndarray").code + b"}b")), "TypeError"),
    "a name as a cell": (cell(Name("numpy ndarray")), "a type in a cell"),
    "a frame in a cell": (cell(pickles.make_cells({"y": [1]})), "DataFrame in a cell"),
    "no frame": (pickles.write_pickle([1, 2]), "holds a list, but should hold"),
    "a name alone": (pickles.write_pickle(Name("pandas DataFrame")), "holds a type"),
    "nothing": (b"", "EOFError"),
    "an opcode of nobody": (b"\x80\x04\xff.", "UnpicklingError"),
    "half a file": (cell("text")[:-20], "truncated|EOFError|exhausted"),
    "a protocol to come": (b"\x80\x63N.", "unsupported pickle protocol"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_pickle_that_is_no_plain_frame_is_refused_undone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words that name the file, and with nothing left behind."""
    raw, words = REFUSED[kind]
    path, mark = tmp_path / "data.pkl", tmp_path / MARK
    path.write_bytes(raw)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ValueError, match=rf"(?s)data\.pkl is not read: .*({words})"):
        read_table(path, ("x",))
    assert not mark.exists()
    assert [path] == [*tmp_path.iterdir()]


def test_a_gzip_file_that_unpacks_without_an_end_is_refused(tmp_path: Path) -> None:
    """A hundred megabytes of nothing in a hundred kilobytes."""
    path = tmp_path / "data.pkl.gz"
    path.write_bytes(gzip.compress(b"\0" * 100_000_000))

    with pytest.raises(ValueError, match=r"a gzip file of .* bytes with more than"):
        read_table(path, ("x",))


def test_the_process_that_unpickles_has_no_rights(tmp_path: Path) -> None:
    """No file and no socket, to read or to write."""
    attempt = (
        "import runpy, socket, os\n"
        f"program = runpy.run_path({str(PROGRAM)!r})\n"
        "program['drop_rights'](0)\n"
        "def refused(call):\n"
        "    try:\n"
        "        call()\n"
        "    except OSError:\n"
        "        return True\n"
        f"calls = [lambda: open({str(tmp_path / MARK)!r}, 'w'), socket.socket,\n"
        "         lambda: open('/etc/hostname'), os.pipe]\n"
        "print([refused(call) for call in calls], flush=True)\n"
    )
    command = [sys.executable, "-I", "-S", "-c", attempt]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout.split("\n")[0] == str([True] * 4)


def test_what_a_column_does_not_need_is_not_looked_at(tmp_path: Path) -> None:
    """A time or a pandas array in another column is passed over."""
    when = Call("datetime datetime", (b"\x07\xe8\1\1\0\0\0\0\0\0",))
    frame = pickles.make_cells({"x": [[1, 2]], "when": [when]})
    path = tmp_path / "data.pkl"
    path.write_bytes(pickles.write_pickle(frame))

    assert read_table(path, ("x",)) == {"x": [[1, 2]]}
    with pytest.raises(ValueError, match="a datetime in a cell"):
        read_table(path, ("x", "when"))


@pytest.mark.parametrize(
    ("code", "letter", "values"),
    [
        ("i8", "q", [1, -2]), ("u1", "B", [0, 255]), ("f4", "f", [0.5, -1.0]),
        ("b1", "?", [True, False]), ("i2", "h", [-3, 4]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("big", [False, True])
def test_numbers_are_read_from_their_bytes(
    code: str, letter: str, values: list[Any], tmp_path: Path, *, big: bool
) -> None:
    """Of every size, and in either order of bytes."""
    raw = struct.pack(f"{'>' if big else '<'}2{letter}", *values)
    array = pickles.make_array(raw, (1, 2), code)
    dtype = pickles.make_dtype(code, ">" if big else "<")
    state = (*array.state[:2], dtype, *array.state[3:])
    path = tmp_path / "data.pkl"
    path.write_bytes(block(Call(array.path, array.args, state)))

    assert read_table(path, ("x",)) == {"x": values}


@pytest.mark.parametrize("name", ["pandas-1.5.3", "pandas-2.3.3", "pandas-3.1.1"])
def test_frames_of_real_releases_are_read(name: str) -> None:
    """As each writes them: numpy 1 and 2, several blocks, arrays in cells."""
    table = read_table(FRAMES / f"{name}.pkl", ("tok_input", "output", "n", "b", "a"))

    assert table == {
        "tok_input": [[1, 2], [3, 70_000]],
        "output": ["x", "yä"],
        "n": [1, 2],
        "b": [True, False],
        "a": [[0, 1], [0.0, 1.0, 2.0]],
    }


CELLS = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.text()
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=15)
@given(cells=st.lists(CELLS, min_size=1, max_size=5))
def test_cells_come_back_as_they_were(
    cells: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever JSON has a form for."""
    path = tmp_path_factory.mktemp("frames") / "data.pkl"
    path.write_bytes(pickles.write_pickle(pickles.make_cells({"x": cells})))

    assert read_table(path, ("x",)) == {"x": cells}


@settings(max_examples=40)
@given(where=st.integers(0, 400), byte=st.integers(0, 255), cut=st.integers(0, 400))
def test_a_damaged_frame_is_refused_or_is_data(
    where: int, byte: int, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One byte changed and a tail gone: never a signal, never another error."""
    raw = bytearray(cell("text"))
    raw[where % len(raw)] = byte
    path = tmp_path_factory.mktemp("frames") / "data.pkl"
    path.write_bytes(raw[: len(raw) - cut % 8])
    try:
        found = json.dumps(read_table(path, ("x",))["x"])
    except ValueError as error:
        found = str(error)

    assert "ended by" not in found
