"""Which LoadGen runs are below a path, and what the path says of each.

Layouts: v5.x and v6.x submissions (tools/submission of mlcommons/inference), this
suite's own reports, and folders nested anyhow.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.core import compliance
from pytest_mlperf.core.endpoints import files as endpoints
from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.accuracy import ACCURACY_TXT
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import SUMMARY
from pytest_mlperf.core.logs.submitter import read_category
from pytest_mlperf.core.logs.submitter import read_model_mapping
from pytest_mlperf.core.regular_file import is_below
from pytest_mlperf.core.rounds.names import is_interactive
from pytest_mlperf.core.rounds.names import resolve_benchmark
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario

MOST_FOLDERS = 500_000
"""The official v5.1 tree has about 20,000."""
DIVISIONS = ("closed", "open", "network")
PARTIAL = "PARTIAL.json"
RUN = re.compile(r"run_\d+|ranging")
MODE = re.compile(r"(performance|accuracy)(-\d+)?")
TEST = re.compile(r"TEST\d\d(-[AB])?")
ATTEMPT = re.compile(r"-\d+$")
CELL = re.compile(
    r"(.+?)[-_.](singlestream|multistream|offline|server|interactive)"
    r"(?![-_.]9)([-_.].*)?",
    re.IGNORECASE,
)
SCENARIO_LEVELS, MODEL_LEVELS = 3, 6
"""How far above a run its scenario and benchmark are looked for, in no layout."""


@dataclass(frozen=True, slots=True)
class FoundRun:
    """One run's folder, and what its path says; what it does not say is empty."""

    path: Path
    model: str = ""
    """The benchmark as the path spells it."""
    benchmark: str = ""
    target: str = ""
    scenario: Scenario | None = None
    mode: Mode | None = None
    test: str = ""
    """Compliance test that the run was made for: ``TEST01``."""
    system: str = ""
    submitter: str = ""
    division: str = ""
    category: str = ""
    """system_type of systems/<system>.json: ``edge``, ``datacenter,edge``."""
    problem: LogError | None = None
    """Why there is nothing to read."""


def find_runs(root: Path) -> Iterator[FoundRun]:
    """Yield every run at or below a path, in order of names; without any, one problem.

    A folder that clearly is a run's is yielded even when its logs are missing.
    """
    try:
        if not root.is_dir():
            root.stat()
            if not root.name.startswith("mlperf_log"):
                raise LogError(root, 0, "a file", "a folder", REMEDY)
            root = root.parent
    except OSError as error:
        found = f"{error.strerror or error}".lower()
        problem = LogError(root, 0, found, "a run's folder or a tree of runs", REMEDY)
        yield FoundRun(root, problem=problem)
        return
    except LogError as error:
        yield FoundRun(root, problem=error)
        return
    count = 0
    for folder, names in walk_folders(root):
        if isinstance(names, LogError):
            count += 1
            yield FoundRun(folder, problem=names)
        elif is_run(folder, names):
            count += 1
            fault = find_missing_log(folder, names)
            fault = fault or find_foreign(folder, names, root)
            yield replace(describe_run(folder), problem=fault)
    if not count:
        found, required = "no LoadGen log in it or below", f"{SUMMARY} and {DETAIL}"
        required += f", or {endpoints.SUMMARY} of MLPerf Endpoints"
        yield FoundRun(root, problem=LogError(root, 0, found, required, REMEDY))


REMEDY = "name a run's folder, or a results or submission tree"
LEAVES = "a link that leaves the tree"
NAME = "name the folder that it leads to"


def walk_folders(root: Path) -> Iterator[tuple[Path, Mapping[str, bool] | LogError]]:
    """Yield each folder with its entries (name -> is it a folder), or why it cannot
    be read; a folder that links lead to twice comes once.

    A link to a folder outside is not followed: it could lead to the whole disk.
    """
    seen: set[tuple[int, int]] = set()
    # Real folders before linked ones: a path that a link would give is the odd one.
    linked = [root]
    while linked:
        stack = [linked.pop(0)]
        while stack:
            folder = stack.pop()
            try:
                state = folder.stat()
                if (state.st_dev, state.st_ino) in seen:
                    continue
                seen.add((state.st_dev, state.st_ino))
                with os.scandir(folder) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
                    names = {entry.name: is_folder(entry) for entry in entries}
            except OSError as error:
                why = f"{error.strerror or error}".lower()
                remedy = "make it readable, or name another folder"
                yield folder, LogError(folder, 0, why, "a readable folder", remedy)
                continue
            if folder.is_symlink() and not is_below(folder, root):
                yield folder, LogError(folder, 0, LEAVES, "a folder of the tree", NAME)
                continue
            yield folder, names
            if len(seen) >= MOST_FOLDERS:
                why = f"more than {MOST_FOLDERS:,} folders"
                yield root, LogError(root, 0, why, "a tree of results", REMEDY)
                return
            wanted = [
                entry
                for entry in entries
                if may_contain_runs(folder, entry.name, names)
            ]
            linked += [folder / e.name for e in wanted if e.is_symlink()]
            stack += [folder / e.name for e in reversed(wanted) if not e.is_symlink()]


def is_folder(entry: os.DirEntry[str]) -> bool:
    """True for a folder or a link to one; False for a link to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def may_contain_runs(folder: Path, name: str, names: Mapping[str, bool]) -> bool:
    """True for a subfolder that can hold results.

    A submitter's code and documentation hold samples of logs, and a ranging run only
    sets the power analyser's range.
    """
    if not names[name] or name == ".git":
        return False
    if name == "ranging" and folder.name == "performance":
        return False
    if name == endpoints.AUDIT and endpoints.find_config(folder):
        return False
    submitter = {"results", "systems"} <= names.keys()
    if submitter and folder.absolute().parent.name in DIVISIONS:
        return name in ("results", "compliance")
    return True


def is_run(folder: Path, names: Mapping[str, bool]) -> bool:
    """True for a folder with a log, or with the place of one in a layout."""
    if SUMMARY in names or DETAIL in names or endpoints.is_result(folder, names):
        return True
    path = folder.absolute()
    if any(find_test_name(part) for part in path.parts[-3:]):
        # A compliance test keeps answers beside its run, for the comparison alone.
        return bool(RUN.fullmatch(path.name))
    if RUN.fullmatch(path.name) and path.parent.name == "performance":
        return True
    if {ACCURACY, ACCURACY_TXT, PARTIAL} & names.keys():
        return True
    in_scenario = parse_scenario(path.parent.name) is not None
    if path.name == "performance":
        return in_scenario and not any(RUN.fullmatch(name) for name in names)
    return path.name == "accuracy" and in_scenario


def find_test_name(folder: str) -> str:
    """Return the compliance test that a folder is named after; empty for none.

    An official name counts even where this version does not know the test.
    """
    name = ATTEMPT.sub("", folder)
    return name if TEST.fullmatch(name) or name in compliance.names() else ""


def find_missing_log(folder: Path, names: Mapping[str, bool]) -> LogError | None:
    """Return what keeps a run's two logs from being read; None when both are files.

    The endpoints client writes other files, which the judge reads itself.
    """
    if endpoints.is_result(folder, names):
        return None
    for name in (SUMMARY, DETAIL):
        path = folder / name
        if name not in names:
            found, remedy = "no such file", "repeat the run; keep both logs of it"
            if PARTIAL in names:
                found = f"no such file, but a {PARTIAL}"
                remedy = f"the run did not end: {PARTIAL} says why; repeat it"
            return LogError(path, 0, found, "a file that LoadGen wrote", remedy)
        if path.exists() and not path.is_file():
            return LogError(path, 0, "no regular file", "a file that LoadGen wrote")
    return None


def find_foreign(folder: Path, names: Iterable[str], root: Path) -> LogError | None:
    """Return a link in a run's folder that leads out of the tree; None without one.

    The text of a file of the reader's own would be in the verdict.
    """
    for path in (folder / name for name in names):
        if path.is_symlink() and path.exists() and not is_below(path, root):
            return LogError(path, 0, LEAVES, "a file of the run", "put the file there")
    return None


def parse_scenario(name: str) -> Scenario | None:
    """Return the scenario that a folder is named after; None for another name."""
    try:
        return Scenario.parse(name)
    except ValueError:
        return None


def describe_run(folder: Path) -> FoundRun:
    """Return what the path alone says of a run's folder."""
    # Not resolved: a link's name is what its maker wants the run to be.
    parts = list(folder.absolute().parts)
    place = FoundRun(folder)
    if RUN.fullmatch(parts[-1]):
        parts.pop()
    if parts and (kind := MODE.fullmatch(parts[-1])):
        place = replace(place, mode=Mode(kind[1]))
        parts.pop()
    if parts and (test := find_test_name(parts[-1])):
        place = replace(place, test=test)
        parts.pop()
    if len(parts) > 1 and (scenario := parse_scenario(parts[-1])):
        place = replace(place, scenario=scenario)
        parts.pop()
        if len(parts) > 3 and parts[-3] in ("results", "compliance"):
            return describe_in_submission(place, parts)
    return describe_nested(place, parts)


def describe_in_submission(place: FoundRun, parts: list[str]) -> FoundRun:
    """Add what .../<division>/<submitter>/results/<system>/<benchmark> says."""
    home = Path(*parts[:-3])
    model = read_model_mapping(home).get(parts[-1], parts[-1])
    place = replace(
        add_benchmark(place, model),
        system=parts[-2],
        category=read_category(home, parts[-2]),
    )
    if home.parent.name not in DIVISIONS:
        return place
    return replace(place, submitter=home.name, division=home.parent.name)


def describe_nested(place: FoundRun, parts: list[str]) -> FoundRun:
    """Add what the nearest folders say that are named after a benchmark."""
    scenario, model = place.scenario, ""
    for level, part in enumerate(reversed(parts[-MODEL_LEVELS:])):
        cell = CELL.fullmatch(part)
        if cell and resolve_benchmark(cell[1]):
            model, scenario = model or cell[1], scenario or parse_scenario(cell[2])
        elif resolve_benchmark(part):
            model = model or part
        elif level < SCENARIO_LEVELS:
            scenario = scenario or parse_scenario(part)
    place = replace(place, scenario=scenario)
    return add_benchmark(place, model) if model else place


def add_benchmark(place: FoundRun, model: str) -> FoundRun:
    """Return the place with its benchmark, from any spelling of it."""
    found = resolve_benchmark(model)
    scenario = place.scenario
    if is_interactive(model) and scenario in (None, Scenario.SERVER):
        scenario = Scenario.INTERACTIVE
    place = replace(place, model=model, scenario=scenario)
    if found is None:
        return place
    return replace(place, benchmark=found[0], target=found[1])
