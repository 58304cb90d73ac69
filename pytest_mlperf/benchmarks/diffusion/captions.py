"""Captions: what the pictures are asked to show."""

from __future__ import annotations

import csv
from pathlib import Path

REMEDY = "Use the file as its source gives it."


def read_captions(path: Path, count: int | None = None) -> list[str]:
    """Return the column ``caption`` of a tab-separated file with a header.

    Raises ``ValueError`` for another number of captions than ``count``, an empty one,
    or a file of another kind.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{path} is no tab-separated text in UTF-8: {error}. {REMEDY}"
        ) from error
    captions = [(row.get("caption") or "").strip() for row in rows]
    if rows and "caption" not in rows[0]:
        raise ValueError(
            f"{path} has the columns {', '.join(map(str, rows[0]))}, but should have"
            f" one called caption. {REMEDY}"
        )
    if "" in captions:
        raise ValueError(
            f"{path} has an empty caption in row {captions.index('') + 2}, but every"
            f" sample should say what to draw. {REMEDY}"
        )
    if not captions or count not in (None, len(captions)):
        required = f"{count:,}" if count else "some"
        raise ValueError(
            f"{path} has {len(captions):,} captions, but should have {required}: the"
            f" limits of the scores hold for all of them. {REMEDY}"
        )
    return captions
