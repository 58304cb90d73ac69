"""Accuracy logs of chosen answers: bytes, or tokens as LoadGen was told them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]


def log_of(folder: Path, records: Sequence[Record]) -> Path:
    """Write an accuracy log as LoadGen does; answers are bytes or tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, record in enumerate(records):
        fields = [f'"seq_id" : {number}', f'"qsl_idx" : {record["index"]}']
        for key in ("data", "token_data"):
            if key in record:
                fields.append(f'"{key}" : "{record[key].hex().upper()}"')
        if "token_count" in record:
            fields.append(f'"token_count" : {record["token_count"]}')
        lines.append(f"{{ {', '.join(fields)} }}")
    text = "[\n" + ",\n".join(lines) + "\n]\n"
    (folder / "mlperf_log_accuracy.json").write_text(text)
    return folder


def numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


def spoken(*ids: int, first: int | None = None, count: int | None = None) -> Record:
    """Return a logged answer of tokens."""
    return {
        "index": 5,
        "data": numbers(*ids),
        "token_data": numbers(ids[0] if first is None else first),
        "token_count": len(ids) if count is None else count,
    }
