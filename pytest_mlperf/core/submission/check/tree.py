"""What a submission tree holds: submitters, systems and results of one round."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from pytest_mlperf.core import rounds
from pytest_mlperf.core.endpoints.documents import Document
from pytest_mlperf.core.endpoints.files import CONFIGS
from pytest_mlperf.core.endpoints.rules import find_round_of_seeds as find_config_round
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.rounds import Round
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.submission.check.benchmark import parse_folders
from pytest_mlperf.core.submission.check.listing import Listing
from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.submission.layout import DIVISIONS
from pytest_mlperf.core.submission.layout import Layout
from pytest_mlperf.core.types import Scenario

STRICT_DIVISIONS = ("closed", "network")
"""Divisions whose scenarios, accuracy targets and compliance tests are checked."""
CATEGORIES = {
    "datacenter": "datacenter",
    "edge": "edge",
    "datacenter,edge": "datacenter_edge",
    "edge,datacenter": "datacenter_edge",
}
"""system_type -> category of the rules. Submission checker, system_type_check."""
SEED = re.compile(r'"effective_qsl_rng_seed",\s*"value":\s*(\d+)')
HEAD = 1 << 16
"""Bytes; LoadGen writes its seeds within the first ten thousand."""
ASKED = 25
"""Results whose seeds tell the round."""


@dataclass(frozen=True, slots=True)
class Home:
    """One submitter in one division."""

    division: str
    org: str

    @property
    def path(self) -> str:
        return f"{self.division}/{self.org}"


@dataclass(frozen=True, slots=True)
class Result:
    """A folder results/<system>/<benchmark>/<scenario> and what its names mean."""

    division: str
    org: str
    system: str
    folder: str
    """The benchmark's folder."""
    scenario_folder: str
    benchmark: tuple[str, str] | None
    """Benchmark and target; None for an unknown name."""
    scenario: Scenario | None

    @property
    def names(self) -> tuple[str, str, str, str, str]:
        """What ``Layout``'s methods take."""
        return self.division, self.org, self.system, self.folder, self.scenario_folder

    @property
    def path(self) -> str:
        """``closed/ACME/results/box/bert-99/Offline``."""
        home = f"{self.division}/{self.org}/results/{self.system}"
        return f"{home}/{self.folder}/{self.scenario_folder}"

    @property
    def is_strict(self) -> bool:
        return self.division in STRICT_DIVISIONS


@dataclass(frozen=True, slots=True)
class Tree:
    """A listed tree with the round that judges it."""

    listing: Listing
    round: Round
    layout: Layout
    homes: tuple[Home, ...]
    results: tuple[Result, ...]
    descriptions: dict[str, Mapping[str, Any] | Problem] = field(default_factory=dict)

    def description(self, home: Home, system: str) -> Mapping[str, Any] | Problem:
        """Return systems/<system>.json, read once, or why it cannot be read."""
        path = str(self.layout.system_json(home.division, home.org, system))
        if path not in self.descriptions:
            self.descriptions[path] = self.listing.record(path, "system_json")
        return self.descriptions[path]

    def category(self, result: Result) -> str | None:
        """Return the category that a result is entered in; None when unknown."""
        home = Home(result.division, result.org)
        found = self.description(home, result.system)
        kind = None if isinstance(found, Problem) else found.get("system_type")
        return CATEGORIES.get(kind) if isinstance(kind, str) else None

    def rule(self, result: Result) -> Rule | None:
        """Return the round's rule for a result; None when the round has none."""
        if result.benchmark is None or result.scenario is None:
            return None
        return self.round.find(*result.benchmark, result.scenario)


def read_tree(
    root: Path,
    round_name: str | None = None,
    *,
    division: str | None = None,
    submitter: str | None = None,
) -> tuple[Tree, list[Problem]]:
    """List a tree, and say what keeps its round from being known.

    ``ValueError`` for an unknown round. Without a name the round is the one whose
    seeds most logs have.
    """
    listing = Listing.of(root)
    homes = tuple(
        Home(name, org)
        for name in DIVISIONS
        if division in (None, name)
        for org in listing.folders(name)
        if submitter in (None, org)
    )
    problems = []
    name = round_name or find_round_of_seeds(listing, homes)
    name = name or find_round_of_configs(listing, homes)
    if name is None:
        name = guess_round(listing, homes)
        problems.append(
            Problem(
                ".",
                "round",
                "no log with the seeds of a known round",
                "logs of one round",
                f"name the round: --round; {name} is assumed",
            )
        )
    table, layout = rounds.get(name), Layout.of(name)
    found = tuple(r for home in homes for r in find_results(listing, home, name))
    return Tree(listing, table, layout, homes, found), problems


def find_results(listing: Listing, home: Home, round_name: str) -> Iterator[Result]:
    """Yield a submitter's results in order of names."""
    top = f"{home.path}/results"
    mapping = read_model_mapping(listing, home)
    for system in listing.folders(top):
        for folder in listing.folders(f"{top}/{system}"):
            for name in listing.folders(f"{top}/{system}/{folder}"):
                model = mapping.get(folder, folder)
                benchmark, scenario = parse_folders(model, name, round_name)
                yield Result(
                    home.division, home.org, system, folder, name, benchmark, scenario
                )


def read_model_mapping(listing: Listing, home: Home) -> dict[str, str]:
    """Return an open submitter's own benchmark names -> official ones.

    Submission checker: model_mapping.json, open division only.
    """
    path = f"{home.path}/model_mapping.json"
    if home.division != "open" or not listing.is_file(path):
        return {}
    found = listing.record(path, "model_mapping")
    if isinstance(found, Problem):
        return {}
    return {name: model for name, model in found.items() if isinstance(model, str)}


def find_logs(listing: Listing, homes: tuple[Home, ...]) -> list[str]:
    """Return the paths of the detail logs of all performance runs."""
    ends = "performance/run_1/mlperf_log_detail.txt"
    paths = [f"{folder}/{ends}" for folder in find_scenarios(listing, homes)]
    return [path for path in paths if listing.is_file(path)]


def find_scenarios(listing: Listing, homes: tuple[Home, ...]) -> Iterator[str]:
    """Yield the path of every scenario's folder below results/."""
    for home in homes:
        top = f"{home.path}/results"
        for system in listing.folders(top):
            for folder in listing.folders(f"{top}/{system}"):
                for name in listing.folders(f"{top}/{system}/{folder}"):
                    yield f"{top}/{system}/{folder}/{name}"


def find_round_of_seeds(listing: Listing, homes: tuple[Home, ...]) -> str | None:
    """Return the round whose seeds most of a sample of logs have; None without one."""
    known = {str(rounds.get(name).seeds.qsl): name for name in rounds.ROUNDS}
    paths = find_logs(listing, homes)
    votes: Counter[str] = Counter()
    for path in paths[:: max(1, len(paths) // ASKED)]:
        try:
            with listing.open(path) as file:
                head = file.read(HEAD).decode(errors="replace")
        except OSError:
            continue
        if (seed := SEED.search(head)) and seed[1] in known:
            votes[known[seed[1]]] += 1
    return votes.most_common(1)[0][0] if votes else None


def find_round_of_configs(listing: Listing, homes: tuple[Home, ...]) -> str | None:
    """Return the round whose seeds most endpoints results have; None without one."""
    votes: Counter[str] = Counter()
    for folder in find_scenarios(listing, homes):
        for path in (f"{folder}/{name}" for name in CONFIGS):
            if listing.is_file(path):
                with suppress(LogError):
                    config = Document.read(listing.root / path, listing.root)
                    votes[find_config_round(config)] += 1
    del votes[""]
    return votes.most_common(1)[0][0] if votes else None


def guess_round(listing: Listing, homes: tuple[Home, ...]) -> str:
    """Return the newest round that lays its folders out as the tree does."""
    old = any(listing.is_folder(f"{home.path}/measurements") for home in homes)
    return "v5.1" if old else rounds.ROUNDS[-1]
