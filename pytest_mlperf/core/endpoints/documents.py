"""One JSON or YAML file of a result, read without trust; values by their path."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlperf.core.endpoints.yaml_block import parse_yaml
from pytest_mlperf.core.logs.lines import LONG_LINE
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.lines import open_log
from pytest_mlperf.core.logs.lines import parse_json

REMEDY = "put the file there that the client wrote, or repeat the run"


@dataclass(frozen=True, slots=True)
class Document:
    """A file's object; a value is named by the keys that lead to it."""

    path: Path
    values: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, root: Path | None = None) -> Document:
        """Read a file; ``LogError`` where it is missing or not whole.

        Links are followed inside ``root`` only, where one is given.
        """
        if not path.exists():
            required = f"{path.parent.name}/{path.name}, which the endpoints client"
            raise LogError(path, 0, "no such file", f"{required} writes", REMEDY)
        with open_log(path, root) as file:
            raw = file.read(LONG_LINE + 1)
        if len(raw) > LONG_LINE:
            found, required = f"more than {LONG_LINE:,} bytes", "a few thousand"
            raise LogError(path, 0, found, required, REMEDY)
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            found = "bytes that are not UTF-8"
            raise LogError(path, 0, found, "plain UTF-8", REMEDY) from None
        if not text.strip() or "\0" in text:
            found = "a NUL byte" if "\0" in text else "an empty file"
            raise LogError(path, 0, found, "what the client wrote", REMEDY)
        is_json = path.suffix == ".json"
        values = (
            parse_json(path, 0, text.strip()) if is_json else parse_yaml(path, text)
        )
        if not isinstance(values, dict):
            found = f"a {type(values).__name__}"
            raise LogError(path, 0, found, "one object of names and values", REMEDY)
        return cls(path, values)

    def find(self, *keys: str) -> Any:
        """Return a value; None where there is none."""
        value: Any = self.values
        for key in keys:
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return value

    def where(self, *keys: str) -> str:
        """Return ``result_summary.json:ttft.max``."""
        return f"{self.path.name}:{'.'.join(keys)}" if keys else self.path.name

    def number(self, *keys: str) -> float:
        """Return a finite number; ``LogError`` for anything else."""
        value = self.find(*keys)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong("a number", *keys)
        if not math.isfinite(value):
            raise self.wrong("a finite number", *keys)
        return float(value)

    def integer(self, *keys: str) -> int:
        """Return a whole number that is not negative; ``LogError`` otherwise."""
        value = self.find(*keys)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.wrong("a whole number, 0 or more", *keys)
        return value

    def text(self, *keys: str) -> str:
        """Return a text; ``LogError`` for anything else."""
        value = self.find(*keys)
        if not isinstance(value, str) or not value:
            raise self.wrong("a text", *keys)
        return value

    def wrong(self, required: str, *keys: str) -> LogError:
        """Return the error of a value that is missing or cannot be."""
        value, name = self.find(*keys), ".".join(keys)
        found = f"no {name}" if value is None else f"{name} = {str(value)[:60]}"
        return LogError(self.path, 0, found, f"{name}: {required}", REMEDY)
