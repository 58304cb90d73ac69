"""systems/<system>.json: the fields, their values, and that they fit the tree.

``checker`` is mlcommons/inference b66003e1,
tools/submission/submission_checker/checks/system_check.py; ``v5.1.1`` is that tag's
tools/submission/submission_checker.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.submission.check.problem import make_fault
from pytest_mlperf.core.submission.check.since import is_asked
from pytest_mlperf.core.submission.check.tree import CATEGORIES
from pytest_mlperf.core.submission.check.tree import STRICT_DIVISIONS
from pytest_mlperf.core.submission.check.tree import Home
from pytest_mlperf.core.submission.check.tree import Tree
from pytest_mlperf.core.submission.description import MEANINGFUL
from pytest_mlperf.core.submission.description import NETWORK
from pytest_mlperf.core.submission.description import list_fields

WHOLE = ("number_of_nodes", "accelerators_per_node", "host_processors_per_node")
"""Numbers that the results' table and the final report compute with (results.py)."""
TEXTS = (
    "division", "submitter", "system_type", "status", "system_name",
    "host_processor_model_name", "accelerator_model_name", "framework",
    "operating_system", "hw_notes", "sw_notes",
)  # fmt: skip
"""Fields that the checkers compare and join as texts (results.py, log_result)."""
STATUSES = ("available", "preview", "rdi")

fields_rule = make_fault("system_fields")
value_rule = make_fault("system_values")
number_rule = make_fault("system_numbers")
agreement = make_fault("system_agreement")
network_rule = make_fault("system_network")
pairs = make_fault("systems_and_results")


def system_problems(tree: Tree, home: Home) -> Iterator[Problem]:
    """Yield what is wrong with a submitter's systems."""
    listing, layout = tree.listing, tree.layout
    folder = str(layout.systems(home.division, home.org))
    with_results = listing.folders(f"{home.path}/results")
    files = [name for name in listing.files(folder) if name.endswith(".json")]
    described = [name.removesuffix(".json") for name in files]
    for system in sorted({*with_results, *described}):
        path = str(layout.system_json(home.division, home.org, system))
        if system not in with_results:
            # v5.1.1: systems_diff.
            remedy = f"add results/{system}, or remove {system}.json"
            yield pairs(path, "a system without results", "results", remedy)
            if not is_asked("systems_and_results", tree.round.name):
                continue
        found = tree.description(home, system)
        if isinstance(found, Problem):
            yield found
            continue
        yield from field_problems(path, found, tree.round.name)
        yield from value_problems(path, found, home)
        yield from network_problems(path, found, home)
    if not layout.together:
        top = f"{home.path}/measurements"
        for system in listing.folders(top):
            if system not in with_results:
                # v5.1.1: measurement_diff.
                remedy = "add its results, or remove it"
                found_text = "measurements without results"
                yield pairs(f"{top}/{system}", found_text, "results", remedy)


def field_problems(
    path: str, found: Mapping[str, Any], round_name: str
) -> Iterator[Problem]:
    """Every field is there, and says what it has to; some are texts.

    Checker: required_fields_check. Anything but a text in those ends the checker with
    an error.
    """
    meaningful = MEANINGFUL if is_asked("meaningful_fields", round_name) else ()
    for name in list_fields(round_name, "closed"):
        if name not in found:
            remedy = f"add {name}"
            if name in meaningful:
                remedy += '; "N/A" where there is none'
            yield fields_rule(path, f"no field {name}", "the field", remedy)
            continue
        value = found[name]
        if name in meaningful and (not value or not str(value).strip()):
            shown = f"{name} is {value!r}"
            remedy = f'write what {name} is; "0" or "N/A" where there is none'
            if name == "number_of_nodes":
                remedy = "write how many nodes the system has, at least 1"
            yield fields_rule(path, shown, "a meaningful value", remedy)
        elif name in TEXTS and not isinstance(value, str):
            shown = f"{name} of type {type(value).__name__}"
            yield fields_rule(path, shown, "a text", f"write {name} as a text")


def value_problems(
    path: str, found: Mapping[str, Any], home: Home
) -> Iterator[Problem]:
    """Status, category, numbers and names are legal and those of the tree.

    Checker: availability_check, system_type_check, submitter_check, division_check
    (v5.1.1 compares the division's case); results.py computes with the numbers.
    """
    for name, legal in (("status", STATUSES), ("system_type", tuple(CATEGORIES))):
        value = found.get(name)
        text = str(value).lower() if name == "status" else value
        if value and text not in legal:
            required = " or ".join(repr(word) for word in legal)
            remedy = f"write one of them as {name}"
            yield value_rule(path, f"{name} {str(value)[:40]!r}", required, remedy)
    for name in WHOLE:
        value = found.get(name)
        if value and not is_whole_number(value):
            shown = f"{name} {str(value)[:40]!r}"
            remedy = f"write {name} as a number: it is computed with"
            yield number_rule(path, shown, "a whole number", remedy)
    submitter, division = found.get("submitter"), found.get("division")
    if submitter and str(submitter).lower() != home.org.lower():
        remedy = f"write the submitter as its folder is named: {home.org}"
        shown = f"submitter {str(submitter)[:40]!r}"
        yield agreement(path, shown, repr(home.org), remedy)
    if division and division != home.division:
        remedy = f"write the division as its folder is named: {home.division}"
        shown = f"division {str(division)[:40]!r}"
        yield agreement(path, shown, repr(home.division), remedy)


def is_whole_number(value: object) -> bool:
    """True for text that Python reads as a whole number, as the checker's tables do."""
    try:
        int(str(value))
    except ValueError:
        return False
    return True


def network_problems(
    path: str, found: Mapping[str, Any], home: Home
) -> Iterator[Problem]:
    """A network system says so and describes its network; a closed one is local.

    Checker: network_check and required_fields_check, which ask for the network's
    fields whenever is_network says anything, ``false`` too.
    """
    value = found.get("is_network")
    if value is not None and not isinstance(value, str):
        shown = f"is_network {value!r}"
        remedy = 'write it as a text: "true" or "false"'
        yield network_rule(path, shown, "a text", remedy)
        return
    over = value is not None and value.lower() == "true"
    if home.division in STRICT_DIVISIONS and over is not (home.division == "network"):
        required = '"true"' if home.division == "network" else '"false", or no field'
        remedy = "correct is_network, or enter the system in the other division"
        yield network_rule(path, f"is_network {value!r}", required, remedy)
    if value:
        for name in NETWORK:
            if name not in found:
                remedy = f"add {name}; or remove is_network, if the system is local"
                yield network_rule(path, f"no field {name}", "the field", remedy)
