"""What the pages say is there: links, files, names, options, protocols, spellings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_mlperf.api import registry
from pytest_mlperf.config import aliases
from pytest_mlperf.config.option_specs import SPECS
from pytest_mlperf.core.matrix import newest_rules
from tests.support.source import PACKAGE
from tests.support.source import ROOT
from tests.support.source import find_modules
from tests.support.source import parse

PAGES = sorted(
    {
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "systems/README.md",
        ROOT / "reports/README.md",
    }
)
every_page = pytest.mark.parametrize(
    "page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES]
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"(?<![\w./<-])((?:\w+/)+[\w.-]+\.(?:py|md|toml))\b")
DOTTED = re.compile(r"(?<![\w./])pytest_mlperf(?:\.\w+)+")


def read_prose(page: Path) -> str:
    """Return a page without the files and commands that it shows."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)


def find_anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in plain}


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    """To a file or a folder of the clone, and to a heading of that page."""
    broken = []
    for link in LINK.findall(read_prose(page)):
        if link.startswith(("http:", "https:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in find_anchors(target)):
            broken.append(link)

    assert broken == []


@every_page
def test_files_are_there(page: Path) -> None:
    """A path is from the root, or from the package's folder where it begins there."""
    if page.name == "CHANGELOG.md":
        return  # it names what was there
    folders = {path.name for path in [*ROOT.iterdir(), *PACKAGE.iterdir()]}
    missing = [
        name
        for name in FILE.findall(LINK.sub("]", read_prose(page)))
        if name.partition("/")[0] in folders - {"build", "reports", "submission"}
        and not ((ROOT / name).exists() or (PACKAGE / name).exists())
    ]

    assert missing == []


@every_page
def test_names_are_there(page: Path) -> None:
    """``pytest_mlperf.api.errors.BuildFailed`` is a class of that module."""
    if page.name == "CHANGELOG.md":
        return
    known = {*registry.GROUPS.values(), "pytest_mlperf.suites"}
    names = set(DOTTED.findall(page.read_text(encoding="utf-8"))) - known

    assert [name for name in sorted(names) if not is_defined(name)] == []


def is_defined(name: str) -> bool:
    """Return whether a dotted name is a module, or defined or imported in one."""
    parts = name.split(".")
    modules = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    module = next(module for module in modules if module in find_modules())
    rest = parts[len(module.split(".")) :]
    if not rest:
        return True
    return rest[0] in {
        word
        for node in parse(find_modules()[module]).body
        for word in re.findall(r"\w+", ast.unparse(node).partition("\n")[0])
    }


@every_page
def test_options_are_there(page: Path) -> None:
    """A page's command does not end in "unrecognized arguments"."""
    text = page.read_text(encoding="utf-8")
    flags = {flag.rstrip("-") for flag in re.findall(r"--mlperf-[a-z-]*", text)}

    assert flags - {spec.flag for spec in SPECS.values()} - {"--mlperf"} == set()


def find_protocols() -> Iterator[tuple[str, str, set[str]]]:
    """Yield (module, name, members) of every protocol that a third party meets."""
    audit = PACKAGE / "core/compliance/audit.py"
    for module, path in find_modules().items():
        if path.parent != PACKAGE / "api" and path != audit:
            continue
        for node in parse(path).body:
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            if "Protocol" in map(ast.unparse, node.bases):
                yield module, node.name, set(find_members(node))


def find_members(node: ast.ClassDef) -> Iterator[str]:
    for member in node.body:
        if isinstance(member, ast.FunctionDef):
            yield member.name
        elif isinstance(member, ast.AnnAssign):
            yield ast.unparse(member.target)


@pytest.mark.parametrize(
    ("module", "name", "members"),
    [pytest.param(*found, id=found[1]) for found in find_protocols()],
)
def test_the_api_page_has_every_protocol(
    module: str, name: str, members: set[str]
) -> None:
    """Below its module's heading, with exactly its members."""
    text = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## `{module}`\n")[2].partition("\n## ")[0]
    row = re.search(rf"^\| `{name}` \| (.*?) \|", section, re.MULTILINE)

    assert row is not None
    assert set(re.findall(r"`(\w+)`", row[1])) == members


def read_spellings() -> dict[str, str]:
    """Return the rows of the table of other harnesses' spellings."""
    text = (ROOT / "docs/reference/names.md").read_text(encoding="utf-8")
    text = text.partition("\n## Options\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(--(?!mlperf)\S+)` \| (.+) \|$", text, re.MULTILINE))


def test_the_page_of_names_has_every_spelling() -> None:
    """In the order in which they are declared."""
    names = [flag.partition("=")[0][2:] for flag in read_spellings()]

    assert list(dict.fromkeys(names)) == list(aliases.ALIASES)


@pytest.mark.parametrize(("typed", "meaning"), read_spellings().items())
def test_a_spelling_means_what_the_page_of_names_says(typed: str, meaning: str) -> None:
    """The table shows an example of each, or why it is refused."""
    flag, _, text = typed.partition("=")
    try:
        translated = aliases.translate(flag, text or "true")
    except ValueError as error:
        reason = str(error).partition(" because ")[2]

        assert meaning == f"refused: {reason}"
    else:
        parts = [
            SPECS[name].flag + ("" if SPECS[name].is_switch else f"={value}")
            for name, value in translated.items()
        ]

        assert meaning == f"`{' '.join(parts)}`"


def read_rounds() -> Iterator[tuple[str, str, str]]:
    """Yield (cell, scenario, round) of the table of what an installation can run."""
    text = (ROOT / "docs/start.md").read_text(encoding="utf-8").replace("\u00ad", "")
    head, _, *rows = (
        text[text.index("| cell | Single") :].partition("\n\n")[0].split("\n")
    )
    scenarios = [name.strip() for name in head.strip("|").split("|")][1:]
    for row in rows:
        names, *rounds = (part.strip() for part in row.strip("|").split("|"))
        for name in re.findall(r"`(.+?)`", names):
            for scenario, told in zip(scenarios, rounds, strict=True):
                yield name, scenario, told.partition(",")[0]


@pytest.mark.parametrize(("name", "scenario", "told"), list(read_rounds()))
def test_a_cell_of_the_start_page_is_of_that_round(
    name: str, scenario: str, told: str
) -> None:
    """The newest one that has it; a dash where none has."""
    found = re.fullmatch(r"(.+?)-(99\.9|99|95)", name)
    benchmark, target = (found[1], found[2]) if found else (name, "")
    rules = newest_rules([(benchmark, [target])])
    rounds = {rule.scenario.value: rule.round for rule in rules}

    assert rounds.get(scenario, "\u2013") == told
