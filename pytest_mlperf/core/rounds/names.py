"""One name a benchmark, for all names in folders, LoadGen, checkers and prose."""

from __future__ import annotations

import re
from functools import cache

from pytest_mlperf.core import catalog

SUFFIX = re.compile(r"[-_ ](99[._-]9|99|95)$")
BEFORE_RETINANET = ("", "v1.0", "v1.1", "v2.0")
INTERACTIVE = re.compile(r"[-_ ]interactive(?=[-_ ]|$)")


def resolve_benchmark(name: str, round_name: str = "") -> tuple[str, str] | None:
    """Return benchmark and target of any usual spelling; None for an unknown name.

    ``bert`` and ``llama2-70b``, as LoadGen calls them, do not tell the target: it is
    empty for them, as for a benchmark that has only one, and the caller has to
    look elsewhere (the folder) or ask. ``llama2-70b-interactive-99`` is
    ``llama2-70b``: see ``is_interactive``. ``round_name`` matters to ``ssd-resnet34``
    alone, which checkers since v2.1 take for an entry to ``retinanet``.
    """
    text = INTERACTIVE.sub("", name.strip().lower().rpartition("/")[2])
    if round_name not in BEFORE_RETINANET and squash(text) == "ssdresnet34":
        return "retinanet", ""
    if found := read_spellings().get(squash(text)):
        return found, ""
    suffix = SUFFIX.search(text)
    if suffix:
        found = read_spellings().get(squash(text[: suffix.start()]), "")
        target = re.sub("[_-]", ".", suffix[1])
        if target in catalog.get(found).targets:
            return found, target
        if found:
            return None
    for facts in catalog.read_all().values():
        for pattern, target in facts.guesses:
            if re.search(pattern, squash(text)):
                return facts.name, target
    return None


def is_interactive(name: str) -> bool:
    """True when a name contains the Interactive scenario, as v5.0's benchmarks do."""
    return bool(INTERACTIVE.search(name.strip().lower()))


def squash(text: str) -> str:
    """Return letters and digits alone, in lower case."""
    return re.sub("[^a-z0-9]", "", text.lower())


@cache
def read_spellings() -> dict[str, str]:
    """Return squashed spelling -> canonical benchmark."""
    return {
        squash(spelling): name
        for name, facts in catalog.read_all().items()
        for spelling in (name, *facts.aliases)
    }
