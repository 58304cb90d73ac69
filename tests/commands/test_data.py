"""``pytest-mlperf data``: status, verify and fetch over a scratch folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pytest_mlperf.api.sources import Source
from pytest_mlperf.commands import data
from pytest_mlperf.commands.main import main
from pytest_mlperf.commands.scratch import survey
from tests.support.file_server import CONTENT
from tests.support.file_server import serve_file

SQUAD = "data/squad/dev-v1.1.json"
GATED = Source(
    paths=("preprocessed/one.pkl",),
    origin="its owner",
    terms="after registration",
    parts=(("one.pkl", hashlib.md5(b"1").hexdigest()), ("two.pkl", "")),  # noqa: S324
)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLPERF_SCRATCH_PATH", str(tmp_path))
    return tmp_path


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_status_says_of_each_file_where_it_is_or_where_to_get_it(
    scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There with its size, missing with origin and terms; both names of a benchmark."""
    write(scratch, "models/bert/model.onnx", b"x" * 1500)
    code = main(["data", "status", "bert-99.9 resnet"])
    lines = capsys.readouterr().out.splitlines()

    assert code == data.INCOMPLETE
    assert "bert: 1 of 3 there, 1.5 kB" in lines
    assert "  there    1.5 kB, models/bert/model.onnx from Zenodo" in lines[1]
    assert any(line.startswith(f"  missing  {SQUAD}") for line in lines)
    assert any("after registration; not to be fetched" in line for line in lines)
    assert any(line.startswith("resnet50: 0 of 4") for line in lines)


def test_status_needs_no_scratch_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It then says what there is to get, of every installed benchmark."""
    monkeypatch.delenv("MLPERF_SCRATCH_PATH", raising=False)
    assert main(["data", "status"]) == data.INCOMPLETE
    out = capsys.readouterr().out

    assert {"bert", "resnet50", "llama2-70b"} <= {
        line.partition(":")[0] for line in out.splitlines()
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["status", "brt"],
            "no installed benchmark declares files under the name 'brt'",
        ),
        (["fetch", "bert"], "there is no scratch folder"),
        (["fetch", "--scratch", "x"], "fetch needs the names of benchmarks"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    """Exit code 2, as for any invalid argument."""
    monkeypatch.delenv("MLPERF_SCRATCH_PATH", raising=False)

    assert main(["data", *words]) == data.REFUSED
    assert message in capsys.readouterr().err


def test_verify_finds_a_file_that_is_not_the_official_one(
    scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hash that is known is compared; of a file without one it is said."""
    path = write(scratch, SQUAD, b"{}")
    write(scratch, "models/bert/vocab.txt", b"a")
    code = main(["data", "verify", "bert"])
    out = capsys.readouterr().out

    assert code == data.INCOMPLETE
    assert f"bert: WRONG     {path} has sha256" in out
    assert "unknown   " in out
    assert "nobody published its hash" in out
    path.unlink()
    assert main(["data", "verify", "bert"]) == data.GOOD


def test_many_files_of_one_source_are_counted_and_hashed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first one may be what is missing."""
    write(tmp_path, "preprocessed/two.pkl", b"22")
    partly = survey.survey(GATED, tmp_path)
    write(tmp_path, "preprocessed/one.pkl", b"1")
    whole = survey.survey(GATED, tmp_path)

    assert (partly.present, partly.expected, partly.is_whole) == (1, 2, False)
    assert (whole.present, whole.size, whole.is_whole) == (2, 3, True)
    assert data.verify("x", (GATED,), tmp_path)
    write(tmp_path, "preprocessed/one.pkl", b"3")
    assert not data.verify("x", (GATED,), tmp_path)
    assert "one.pkl has md5" in capsys.readouterr().out


def test_fetch_downloads_what_is_public_and_explains_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """URL, terms and tree of a gated file; a file that is there is left alone."""
    with serve_file() as server:
        public = Source(
            paths=("models/a.bin",),
            origin="a test",
            sha256=hashlib.sha256(CONTENT).hexdigest(),
            urls=(server.url("gone"), server.url("good")),
        )
        assert not data.fetch("x", (public, GATED), tmp_path)
        out = capsys.readouterr().out
        asked = len(server.seen)
        assert data.fetch("x", (public,), tmp_path)
        assert len(server.seen) == asked
        broken = Source(("b.bin",), "a test", urls=(server.url("gone"),))
        assert not data.fetch("x", (broken,), tmp_path)

    assert (tmp_path / "models/a.bin").read_bytes() == CONTENT
    assert "x: fetched " in out
    assert "(sha256 is right)" in out
    for part in ("its owner", "after registration", "... 2 files ...", "two.pkl"):
        assert part in out
    assert "HTTP 404" in capsys.readouterr().err


def test_preprocess_goes_on_with_the_next_benchmark(
    scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be made says what it needs; bert needs no such step."""
    pytest.importorskip("nibabel")
    code = main(["data", "preprocess", "unet3d", "rgat", "bert"])
    found = capsys.readouterr().err

    assert code == data.INCOMPLETE
    assert f"3d-unet: 43 of 43 cases (case_00000 ...) are not below {scratch}" in found
    assert "\nrgat: " in found
    assert main(["data", "preprocess", "bert"]) == data.GOOD
    assert "nothing is to be preprocessed" in capsys.readouterr().out
