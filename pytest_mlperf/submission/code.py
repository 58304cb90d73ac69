"""The code that ran, as a submission carries it: sources, requirements, no data."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
"""The package; in a clone the suites lie beside it, in a wheel inside."""
TEXT = frozenset({".py", ".toml", ".md", ".typed", ".txt", ".sh"})
LEFT_OUT = frozenset({"embedded", "__pycache__", "suites", "fixtures", "systems"})
"""Folders of the package that are data, or are copied to where a clone has them."""
LARGEST = 1 << 20
"""Bytes of a source file; anything larger is data."""
PACKAGE = "pytest-mlperf"
SYSTEMS = "The system file of the runs, where there was one.\n"


def write(
    folder: Path,
    *,
    engines: Iterable[str] = (),
    system_file: Path | None = None,
    note: str = "",
) -> Path:
    """Write the code below ``folder`` and return where it is.

    A folder that holds other code, of an earlier session, is kept: this session's
    gets a number. ``engines`` are ``module:object`` of engines in development.
    Raises ``OSError``.
    """
    making = folder / f"{PACKAGE}.making"
    shutil.rmtree(making, ignore_errors=True)
    beside = HOME if (HOME / "suites").is_dir() else HOME.parent
    for path in sources(HOME, LEFT_OUT):
        _copy(path, making / "pytest_mlperf" / path.relative_to(HOME))
    for name in ("suites", "fixtures"):
        for path in sources(beside / name, {"__pycache__"}):
            if path.name != "conftest.py":
                _copy(path, making / name / path.relative_to(beside / name))
    for name in ("conftest.py", "suites/conftest.py"):
        if (beside / name).is_file():
            _copy(beside / name, making / "conftest.py")
    for name in ("pyproject.toml", "LICENSE", "NOTICE"):
        if (beside / name).is_file():
            _copy(beside / name, making / name)
    if system_file:
        _copy(system_file, making / "systems" / system_file.name)
    for spec in engines:
        for path, name in _module(spec):
            _copy(path, making / "engines" / name)
    # pyproject.toml makes it part of the wheel that a reader installs.
    (making / "systems").mkdir(exist_ok=True)
    (making / "systems/README.md").write_text(SYSTEMS, encoding="utf-8")
    (making / "requirements.txt").write_text(requirements(), encoding="utf-8")
    (making / "README.md").write_text(_readme(note), encoding="utf-8")
    return _keep(making)


def sources(folder: Path, left_out: Iterable[str]) -> Iterator[Path]:
    """Yield the source files of a folder: text, small, with a name git takes."""
    skip = set(left_out)
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        odd = any(part.startswith(".") or " " in part for part in parts)
        if odd or skip & set(parts[:-1]) or path.suffix not in TEXT:
            continue
        if path.is_file() and path.stat().st_size <= LARGEST:
            yield path


def requirements() -> str:
    """Return every installed distribution with its version, one a line.

    Without this suite: what ran lies beside, and no index may have it.
    """
    from importlib.metadata import distributions

    found = {
        f"{name}=={one.version}"
        for one in distributions()
        if (name := one.name) and name != PACKAGE
    }
    return "\n".join([*sorted(found, key=str.lower), ""])


def _module(spec: str) -> Iterator[tuple[Path, str]]:
    """Yield the sources of ``module:object``; none of what is installed by name."""
    from importlib.util import find_spec

    module, colon, _ = spec.partition(":")
    found = find_spec(module) if colon else None
    if found is None or found.origin is None:
        return
    path = Path(found.origin)
    if path.name != "__init__.py":
        yield path, path.name
        return
    for source in sources(path.parent, {"__pycache__"}):
        yield source, f"{path.parent.name}/{source.relative_to(path.parent)}"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _keep(making: Path) -> Path:
    """Give the new code its name: that of the same code, or the next one free."""
    number = 1
    while True:
        name = PACKAGE if number == 1 else f"{PACKAGE}-{number}"
        target = making.with_name(name)
        if not target.exists():
            making.rename(target)
            return target
        if _same(making, target):
            shutil.rmtree(making)
            return target
        number += 1


def _same(one: Path, other: Path) -> bool:
    files = {p.relative_to(one) for p in one.rglob("*") if p.is_file()}
    if files != {p.relative_to(other) for p in other.rglob("*") if p.is_file()}:
        return False
    return all(filecmp.cmp(one / f, other / f, shallow=False) for f in files)


def _readme(note: str) -> str:
    lines = ["# Code that ran", "", *([f"**{note}**", ""] if note else []), ""]
    return "\n".join(lines) + (
        "In this folder: `pip install -r requirements.txt`, `pip install --no-deps .`, "
        "then the command in a result's README.md. Models and data sets are the "
        "official ones and are not part of it: `MLPERF_SCRATCH_PATH` names their "
        "folder.\n"
    )
