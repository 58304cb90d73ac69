"""The code that ran, as a submission carries it: sources, requirements, no data."""

from __future__ import annotations

import filecmp
import json
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
    if not (making / "pyproject.toml").exists():
        (making / "pyproject.toml").write_text(project(), encoding="utf-8")
    if system_file:
        _copy(system_file, making / "systems" / system_file.name)
    for spec in engines:
        for path, name in _module(spec):
            # Beside conftest.py, whose folder pytest imports from.
            if not (making / name).exists():
                _copy(path, making / name)
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


def project() -> str:
    """Return a pyproject.toml that installs the code; a wheel comes without one."""
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


def _module(spec: str) -> Iterator[tuple[Path, str]]:
    """Yield the sources of ``module:object``, each with the path it is imported by.

    Of a package the whole: its modules import each other. None of what is installed by
    name.
    """
    from importlib.util import find_spec

    module, colon, _ = spec.partition(":")
    top = module.partition(".")[0]
    if not colon or top == HOME.name:
        return
    package, found = find_spec(top), find_spec(module)
    if package and package.origin and package.submodule_search_locations:
        folder = Path(package.origin).parent
        for source in sources(folder, {"__pycache__"}):
            yield source, f"{top}/{source.relative_to(folder).as_posix()}"
    elif found and found.origin:
        # A folder without __init__.py is a package too, but not all of it is ours.
        path = Path(found.origin)
        name = module.replace(".", "/")
        inside = found.submodule_search_locations is not None
        yield path, f"{name}/{path.name}" if inside else f"{name}{path.suffix}"


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
