"""Sums of the official pickles, and their check before anything in them is read.

MLCommons publishes none beside its files. These are stated in public code of submitters
who took the files from MLCommons' storage; no sha256 is known.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path

from pytest_mlperf.core.regular_file import open_regular

MD5: Mapping[str, str] = {
    # Intel's README of MLPERF4.0 in HabanaAI/Model-References, of the file that comes
    # out of the .pkl.gz; AMD's resource checker of v5.1.
    "llama2-70b": "5fe8be0a7ce5c3c9a028674fd24b00d5",
    # AMD's resource checkers, in two harnesses.
    "llama3.1-405b": "25d9f2085bbcacb07554cd7f4af303c9",
    # AMD's resource checker and download script, and a program of somebody else's.
    "mixtral-8x7b": "ded6c711288c9bbca02929855557b8c1",
}
"""Benchmark -> md5 of its dataset as a pickle that is not compressed."""


def check_published(benchmark: str, path: Path) -> None:
    """Raise ``ValueError`` for a pickle that is not the one whose sum is published."""
    required = MD5.get(benchmark)
    if required is None or not path.name.endswith((".pkl", ".pkl.gz")):
        return
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with open_regular(path) as raw:
            is_packed = path.suffix == ".gz"
            file = gzip.GzipFile(fileobj=raw) if is_packed else raw
            while block := file.read(1 << 20):
                digest.update(block)
    except (OSError, EOFError) as error:
        raise ValueError(
            f"{path} cannot be read: {error}; download it again."
        ) from None
    if digest.hexdigest() != required:
        raise ValueError(
            f"{path} has md5 {digest.hexdigest()}, but the official file has {required}"
            f" [{Path(__file__).name}]: its references hold for that file only, and a"
            " pickle can hold a program. Download it again; a frame that you made"
            " yourself is read as .parquet in the same place."
        )
