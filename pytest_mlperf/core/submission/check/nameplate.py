"""systems/<system>_power.yaml: what a system's power supplies can deliver.

Source: mlcommons/inference b66003e1, tools/submission: submission_checker/loader.py
(the file is loaded for each system) and checks/system_check.py (nameplate_power_check),
the template of submission_structure.md. The checker only warns of a file that is not
there; of one that it cannot load or add up it says so, or ends with an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_mlperf.core.endpoints.yaml_block import parse_yaml
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.submission.check import power
from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.submission.check.problem import make_fault
from pytest_mlperf.core.submission.check.tree import Home
from pytest_mlperf.core.submission.check.tree import Tree

RULE = "nameplate_power"
CAPACITY = "system_power_capacity"
"""Field of the system's description that the checker takes instead of the file."""
PSUS, NEEDED, WATTS = "psus", "min psus needed", "PowerCapacityWatts"
"""Keys of a component; the first two in any case."""
TEMPLATE = "block YAML as in the template of submission_structure.md"
REMEDY = f"correct the file; or remove it and write {CAPACITY} in the system's JSON"

fault = make_fault(RULE)


def nameplate_problems(tree: Tree, home: Home) -> Iterator[Problem]:
    """Yield what is wrong with the nameplate power of a submitter's systems."""
    for system in tree.listing.folders(f"{home.path}/results"):
        file = tree.layout.system_json(home.division, home.org, system)
        path = str(file.with_name(f"{system}_power.yaml"))
        if path not in tree.listing.entries:
            continue
        is_needed = has_power(tree, home, system) and not has_capacity(
            tree, home, system
        )
        content = read_nameplate(tree, path)
        if isinstance(content, Problem):
            yield content
        elif content is None and is_needed:
            yield fault(path, "an empty file", TEMPLATE, REMEDY)
        elif is_needed:
            yield from component_problems(path, content)


def has_power(tree: Tree, home: Home, system: str) -> bool:
    """True for a system with a result whose power was measured."""
    mine = (home.division, home.org, system)
    return any(
        result.names[:3] == mine and power.has_power_logs(tree, result)
        for result in tree.results
    )


def has_capacity(tree: Tree, home: Home, system: str) -> bool:
    """True where the system's description has the figure itself."""
    description = tree.description(home, system)
    return not isinstance(description, Problem) and CAPACITY in description


def read_nameplate(tree: Tree, path: str) -> Any:
    """Return a file's content, None of an empty one; or the problem with it."""
    if tree.listing.is_file(path) and not tree.listing.entries[path].size:
        return None
    text = tree.listing.text(path, RULE)
    if isinstance(text, Problem):
        return text
    try:
        return parse_yaml(Path(path), text)
    except LogError as error:
        return Problem(path, RULE, error.found, TEMPLATE, REMEDY, error.line)


def component_problems(path: str, content: Any) -> Iterator[Problem]:
    """Yield the components whose power the checker cannot add up.

    A component is a mapping with ``PSUs`` and ``Min PSUs Needed``: its power is that of
    its largest supplies, as many as it needs. Everything else only groups components.
    """
    if isinstance(content, list):
        for item in content:
            yield from component_problems(path, item)
    if not isinstance(content, dict):
        return
    keys = {key.lower(): key for key in content}
    if PSUS not in keys or NEEDED not in keys:
        for value in content.values():
            yield from component_problems(path, value)
        return
    needed, supplies = content[keys[NEEDED]], content[keys[PSUS]]
    if not isinstance(needed, int):
        shown = f"{keys[NEEDED]}: {str(needed)[:40]}"
        yield fault(path, shown, "a whole number of power supplies", REMEDY)
    if not isinstance(supplies, list):
        shown = f"{keys[PSUS]}: {str(supplies)[:40]}"
        yield fault(path, shown, f"a list of supplies with {WATTS}", REMEDY)
        return
    for supply in supplies:
        watts = supply.get(WATTS, 0) if isinstance(supply, dict) else supply
        if not isinstance(supply, dict) or not isinstance(watts, int | float):
            shown = f"a power supply of {str(watts)[:40]}"
            yield fault(path, shown, f"{WATTS} as a number", REMEDY)
