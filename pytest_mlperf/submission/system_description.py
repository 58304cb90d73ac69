"""A submission's systems/<system>.json: detected, from the file, or asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mlperf.core.submission import description
from pytest_mlperf.core.submission.request import Entry
from pytest_mlperf.core.submission.request import SubmissionRequest
from pytest_mlperf.machine import description_hints

if TYPE_CHECKING:
    from pytest_mlperf.config.options import Options
    from pytest_mlperf.machine.system import System

FORM = "system.toml"


def find_category(options: Options, system: System) -> str:
    """Return the category of the session; raises ``ValueError`` if none was given."""
    category = options.category or system.description.get("system_type", "")
    if not category:
        raise ValueError(
            "--mlperf-submission needs to know the category: add --mlperf-category "
            "edge, datacenter or datacenter,edge, or system_type in the [description] "
            f"of systems/{system.name}.toml"
        )
    return ",".join(sorted(re.split(r"\s*,\s*", category)))


def describe_system(
    ask: SubmissionRequest,
    system: System,
    *,
    engines: Sequence[str],
    versions: Mapping[str, str],
    entries: Sequence[Entry] = (),
) -> dict[str, str]:
    """Return the description's fields, with the software that ran.

    ``engines``: those that were asked for; they count until there are ``entries``.
    """
    verdicts = {e.performance.verdict.engine: e.performance.verdict for e in entries}
    frameworks = [
        f"{name} {verdicts[name].facts.get(name, '')}".strip()
        if name in verdicts
        else name
        for name in dict.fromkeys([*verdicts] or engines)
    ]
    stack = [f"Python {system.python}"]
    stack += [f"{name} {version}" for name, version in sorted(versions.items())]
    software = {
        "framework": ", ".join(frameworks),
        "other_software_stack": ", ".join(stack),
    }
    used = count_accelerators(entries)
    counts = {"accelerators_per_node": str(used)} if used else {}
    values = description.describe(
        {**software, **system.description, **counts},
        round_name=ask.round,
        org=ask.org,
        division=ask.division,
        category=ask.category,
    )
    return description.fill_for_rehearsal(values) if ask.rehearsal else values


def count_accelerators(entries: Iterable[Entry]) -> int:
    """Return the most accelerators that one of the results used; 0 for none."""
    return max((e.performance.verdict.run.accelerators for e in entries), default=0)


def check_description(values: Mapping[str, str], system: System, reports: Path) -> str:
    """Return which fields a person has to fill in, after writing a form for them.

    Empty when nothing is missing. Raises ``OSError`` when the form cannot be written.
    """
    empty = description.find_empty(values)
    wrong = [name for name in description.find_unreadable(values) if name not in empty]
    if not empty and not wrong:
        return ""
    reports.mkdir(parents=True, exist_ok=True)
    form = reports / FORM
    text = description.format_form(values, description_hints.propose_values())
    form.write_text(text, encoding="utf-8")
    texts = []
    if empty:
        texts.append(f"without a value: {', '.join(empty)}")
    if wrong:
        texts.append(f"no whole number: {', '.join(wrong)}")
    file = system.tuning.path
    where = f"paste it into {file}"
    if file is None:
        where = "save it as systems/NAME.toml, and add --mlperf-system NAME"
    return (
        f"the description of system {system.name} has fields "
        f"{'; '.join(texts)}: fill in the form {form} and {where}"
    )
