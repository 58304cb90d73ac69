"""What describes a result: measurements, user.conf, README, calibration, code.

``checker`` is mlcommons/inference b66003e1, tools/submission/submission_checker/
checks/measurements_checks.py; ``v5.1.1`` is that tag's submission_checker.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytest_mlperf.core import rounds
from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.submission.check.problem import make_fault
from pytest_mlperf.core.submission.check.since import is_asked
from pytest_mlperf.core.submission.check.tree import STRICT_DIVISIONS
from pytest_mlperf.core.submission.check.tree import Home
from pytest_mlperf.core.submission.check.tree import Result
from pytest_mlperf.core.submission.check.tree import Tree

FIELDS = (
    "input_data_types",
    "retraining",
    "starting_weights_filename",
    "weight_data_types",
    "weight_transformations",
)
"""SYSTEM_IMP_REQUIRED_FILES, each with a value."""
SETTING = re.compile(r"[^=]+\.[^.=]+\.[^.=]+=\s*\S.*")
"""A line of user.conf: model.scenario.key = value."""

fields_rule = make_fault("measurements_fields")
file_rule = make_fault("measurements_files")
code_rule = make_fault("code")


def measurement_problems(
    tree: Tree, result: Result, *, by_loadgen: bool = True
) -> Iterator[Problem]:
    """Yield what is wrong with what describes one result.

    LoadGen alone has a user.conf (checker: required_files_check).
    """
    listing, layout = tree.listing, tree.layout
    folder = str(layout.measurements(*result.names))
    if not listing.is_folder(folder):
        remedy = "add user.conf, README.md and the measurements file of this result"
        yield file_rule(folder, "no such folder", "a folder", remedy)
        return
    names = ["user.conf", "README.md"] if by_loadgen else ["README.md"]
    if rounds.is_before(tree.round.name, "v5.0"):
        names.append("mlperf.conf")
    for name in names:
        # Checker: required_files_check, neither missing nor empty.
        text = listing.text(f"{folder}/{name}", "measurements_files")
        if isinstance(text, Problem):
            yield text
        elif name == "user.conf":
            yield from conf_problems(f"{folder}/{name}", text)
    path = measurements_json(tree, result)
    found = listing.record(path, "measurements_fields")
    if isinstance(found, Problem):
        yield found
        return
    may_be_empty = not is_asked("meaningful_fields", tree.round.name)
    for name in FIELDS:
        value = found.get(name)
        # Checker: anything but an empty value, objects too.
        if name in found and may_be_empty:
            continue
        if not value or not str(value).strip():
            shown = f"no field {name}" if name not in found else f"{name} {value!r}"
            remedy = f'write {name}; "no" and "none" are answers'
            yield fields_rule(path, shown, "a meaningful value", remedy)


def measurements_json(tree: Tree, result: Result) -> str:
    """Return the path of a result's measurements file, as the checker finds it.

    v5.1.1, check_measurement_dir: a name that begins with the system's and ends in
    the scenario, else any that begins so.
    """
    expected = tree.layout.measurements_json(*result.names)
    folder = str(expected.parent)
    if not tree.layout.together:
        end = f"_{result.scenario_folder}.json"
        names = [
            name
            for name in tree.listing.files(folder)
            if name.startswith(result.system) and name.endswith(".json")
        ]
        for name in sorted(names, key=lambda name: not name.endswith(end)):
            return f"{folder}/{name}"
    return str(expected)


def conf_problems(path: str, text: str) -> Iterator[Problem]:
    """user.conf is what LoadGen could have read (loadgen, FromConfig)."""
    for number, line in enumerate(text.splitlines(), 1):
        setting = line.partition("#")[0].strip()
        if setting and not SETTING.fullmatch(setting):
            required = "model.scenario.key = value"
            remedy = "put the user.conf there that the run was made with"
            yield Problem(
                path, "user_conf", repr(setting[:60]), required, remedy, number
            )
            return


def code_problems(tree: Tree, result: Result) -> Iterator[Problem]:
    """The code that ran is in the tree.

    Checker: directory_exist_check. v5.1.1: a folder of the benchmark's name, or a
    file of that name which says which other folder it is.
    """
    if tree.layout.together:
        return
    listing = tree.listing
    code = str(tree.layout.code(result.division, result.org))
    path = f"{code}/{result.folder}"
    if listing.is_file(path):
        text = listing.text(path, "code")
        if isinstance(text, Problem):
            yield text
            return
        named = f"{code}/{text.strip().rstrip('/')}"
        if not listing.is_folder(named):
            shown = f"the name of {text.strip()[:60]!r}, which is not there"
            yield code_rule(path, shown, "the name of a folder in code/", "correct it")
    elif not listing.is_folder(path):
        remedy = f"add the code that ran, or a file {result.folder} that names its"
        remedy += " folder"
        yield code_rule(path, "no such folder", "the benchmark's code", remedy)


def home_problems(tree: Tree, home: Home) -> Iterator[Problem]:
    """Yield what is wrong with a submitter's code and calibration notes."""
    listing, layout = tree.listing, tree.layout
    code = str(layout.code(home.division, home.org))
    if not listing.is_folder(code):
        yield code_rule(code, "no such folder", "the code that ran", "add it")
    since = rounds.ROUNDS.index(tree.round.name) >= rounds.ROUNDS.index("v5.1")
    if home.division in STRICT_DIVISIONS and since:
        # v5.1.1: calibration check, either place.
        document = str(layout.calibration(home.division, home.org))
        paths = (f"{home.path}/calibration.md", document)
        there = [path for path in paths if listing.is_file(path)] or [document]
        texts = [listing.text(path, "calibration") for path in there]
        wrong = [text for text in texts if isinstance(text, Problem)]
        if len(wrong) == len(texts):
            yield wrong[0]
