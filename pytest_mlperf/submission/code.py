"""Writes the code that ran into a submission: sources and requirements, no data."""

from __future__ import annotations

import filecmp
import json
import shutil
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path

from pytest_mlperf.core.redaction import redact_file

HOME = Path(__file__).resolve().parents[1]
"""The package; the suites are beside it in a clone, and inside it in a wheel."""
TEXT = frozenset({".py", ".toml", ".md", ".typed", ".txt", ".sh"})
LEFT_OUT = frozenset({"embedded", "__pycache__", "suites", "fixtures", "systems"})
"""Folders of the package that are data, or are copied to their place in a clone."""
LARGEST = 1 << 20
"""Most bytes of a source file; anything larger is data."""
PACKAGE = "pytest-mlperf"
SYSTEMS = "The system file of the runs, where there was one.\n"


def write_code(
    folder: Path,
    *,
    engines: Iterable[str] = (),
    system_file: Path | None = None,
    note: str = "",
) -> Path:
    """Write the code below ``folder`` and return its path.

    The different code of an earlier session is kept: this session's gets a number.
    ``engines``: ``module:object`` of engines in development. Raises ``OSError``.
    """
    making = folder / f"{PACKAGE}.making"
    shutil.rmtree(making, ignore_errors=True)
    beside = HOME if (HOME / "suites").is_dir() else HOME.parent
    for path in list_sources(HOME, LEFT_OUT):
        _copy(path, making / "pytest_mlperf" / path.relative_to(HOME))
    for name in ("suites", "fixtures"):
        for path in list_sources(beside / name, {"__pycache__"}):
            if path.name != "conftest.py":
                _copy(path, making / name / path.relative_to(beside / name))
    for name in ("conftest.py", "suites/conftest.py"):
        if (beside / name).is_file():
            _copy(beside / name, making / "conftest.py")
    for name in ("pyproject.toml", "LICENSE", "NOTICE"):
        if (beside / name).is_file():
            _copy(beside / name, making / name)
    if not (making / "pyproject.toml").exists():
        (making / "pyproject.toml").write_text(format_project(), encoding="utf-8")
    if system_file:
        own = making / "systems" / system_file.name
        _copy(system_file, own)
        redact_file(own)  # a server's command may hold a key
    for spec in engines:
        for path, name in _list_module_sources(spec):
            # Beside conftest.py: pytest imports from its folder.
            if not (making / name).exists():
                _copy(path, making / name)
    # pyproject.toml includes this folder in the wheel that a reader installs.
    (making / "systems").mkdir(exist_ok=True)
    (making / "systems/README.md").write_text(SYSTEMS, encoding="utf-8")
    (making / "requirements.txt").write_text(format_requirements(), encoding="utf-8")
    (making / "README.md").write_text(_format_readme(note), encoding="utf-8")
    return _place(making)


def list_sources(folder: Path, left_out: Iterable[str]) -> Iterator[Path]:
    """Yield the source files of a folder: small text files with ordinary names."""
    skip = set(left_out)
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        odd = any(part.startswith(".") or " " in part for part in parts)
        if odd or skip & set(parts[:-1]) or path.suffix not in TEXT:
            continue
        if path.is_file() and path.stat().st_size <= LARGEST:
            yield path


def format_requirements() -> str:
    """Return every installed distribution with its version, one per line.

    This suite is left out: its code is in the same folder, and possibly on no index.
    """
    from importlib.metadata import distributions

    pins = {
        f"{name}=={one.version}"
        for one in distributions()
        if (name := one.name) and name != PACKAGE
    }
    return "\n".join([*sorted(pins, key=str.lower), ""])


def format_project() -> str:
    """Return a pyproject.toml that installs the code; a wheel has none."""
    from importlib.metadata import distribution

    own = distribution(PACKAGE)
    needs = [need for need in own.requires or () if "extra ==" not in need]
    lines = [
        "[build-system]", 'requires = ["hatchling>=1.26"]',
        'build-backend = "hatchling.build"', "", "[project]", f'name = "{PACKAGE}"',
        f"version = {json.dumps(own.version)}", 'readme = "README.md"',
        f"requires-python = {json.dumps(own.metadata['Requires-Python'] or '>=3.11')}",
        f"dependencies = {json.dumps(needs)}",
    ]  # fmt: skip
    for group in sorted({point.group for point in own.entry_points}):
        lines += ["", f"[project.entry-points.{json.dumps(group)}]"]
        if group == "console_scripts":
            lines[-1] = "[project.scripts]"
        for point in sorted(own.entry_points.select(group=group), key=str):
            lines.append(f"{json.dumps(point.name)} = {json.dumps(point.value)}")
    target = "[tool.hatch.build.targets.wheel"
    lines += ["", f"{target}]", f'packages = ["{HOME.name}"]', ""]
    lines += [f"{target}.force-include]"]
    lines.append(f'"conftest.py" = "{HOME.name}/suites/conftest.py"')
    lines += [f'{n} = "{HOME.name}/{n}"' for n in ("suites", "fixtures", "systems")]
    lines += ["", "[tool.pytest.ini_options]", 'minversion = "8.3"', ""]
    return "\n".join(lines)


def _list_module_sources(spec: str) -> Iterator[tuple[Path, str]]:
    """Yield the sources of ``module:object``, each with its path for imports.

    All of a package is yielded, since its modules import each other; nothing for an
    engine that is named otherwise.
    """
    from importlib.util import find_spec

    module, colon, _ = spec.partition(":")
    top = module.partition(".")[0]
    if not colon or top == HOME.name:
        return
    package, found = find_spec(top), find_spec(module)
    if package and package.origin and package.submodule_search_locations:
        folder = Path(package.origin).parent
        for source in list_sources(folder, {"__pycache__"}):
            yield source, f"{top}/{source.relative_to(folder).as_posix()}"
    elif found and found.origin:
        # Not everything in a namespace package belongs to the engine.
        path = Path(found.origin)
        name = module.replace(".", "/")
        inside = found.submodule_search_locations is not None
        yield path, f"{name}/{path.name}" if inside else f"{name}{path.suffix}"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _place(making: Path) -> Path:
    """Rename the new code to the name of identical code, or to the next free one."""
    number = 1
    while True:
        name = PACKAGE if number == 1 else f"{PACKAGE}-{number}"
        target = making.with_name(name)
        if not target.exists():
            making.rename(target)
            return target
        if _is_same(making, target):
            shutil.rmtree(making)
            return target
        number += 1


def _is_same(one: Path, other: Path) -> bool:
    files = {p.relative_to(one) for p in one.rglob("*") if p.is_file()}
    if files != {p.relative_to(other) for p in other.rglob("*") if p.is_file()}:
        return False
    return all(filecmp.cmp(one / f, other / f, shallow=False) for f in files)


def _format_readme(note: str) -> str:
    lines = ["# Code that ran", "", *([f"**{note}**", ""] if note else []), ""]
    return "\n".join(lines) + (
        "In this folder: `pip install -r requirements.txt`, `pip install --no-deps .`, "
        "then the command in a result's README.md. Models and data sets are the "
        "official ones and are not part of it: `MLPERF_SCRATCH_PATH` names their "
        "folder.\n"
    )
