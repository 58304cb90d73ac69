"""Official pickles are compared with their published sums before they are read."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from pytest_mlperf.benchmarks import llama
from pytest_mlperf.benchmarks.llm import published_sums
from pytest_mlperf.benchmarks.llm.published_sums import check_published

NAME = "open_orca_gpt4_tokenized_llama.sampled_24576.pkl"
CONTENT = b"stands for a pickle"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """The content above is the published one."""
    digest = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    monkeypatch.setattr(published_sums, "MD5", {"llama2-70b": digest})


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "is_refused"),
    [
        ("llama2-70b", CONTENT, False),
        ("llama2-70b", CONTENT + b"!", True),
        ("deepseek-r1", b"of which no sum is known", False),
    ],
)
def test_a_pickle_is_the_published_one(
    tmp_path: Path, name: str, content: bytes, *, packed: bool, is_refused: bool
) -> None:
    """Compressed or not: what the .gz holds counts."""
    path = tmp_path / (NAME + ".gz" * packed)
    path.write_bytes(gzip.compress(content) if packed else content)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()

    if not is_refused:
        check_published(name, path)
        return
    with pytest.raises(ValueError, match=f"has md5 {found}, but the official file has"):
        check_published(name, path)


@pytest.mark.usefixtures("published")
def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.gz"
    path.write_bytes(gzip.compress(CONTENT)[:-9])
    with pytest.raises(ValueError, match=r"cannot be read: .*; download it again"):
        check_published("llama2-70b", path)


def test_another_pickle_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """Whatever it holds: this one would be an error of the reader's."""
    path = tmp_path / NAME
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ValueError, match=r"5fe8be.*\[published_sums.py\].*\.parquet"):
        llama.LLAMA2_70B.open_workload("official", tmp_path)
