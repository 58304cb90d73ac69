"""Made-up kernel files below a folder, which stands for the root of a machine."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path

Grow = Callable[[Mapping[str, str]], Path]
"""Files by name -> the folder that they were written below."""


def write_files(root: Path, files: Mapping[str, str]) -> Path:
    """Write files by name and content below a folder; return the folder."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
