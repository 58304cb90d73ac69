"""What single benchmarks and network systems have to show beside their logs.

Sources: mlcommons/inference b66003e1, tools/submission/submission_checker/
constants.py (REQUIRED_ACC_BENCHMARK, v5.0 on) and checks/performance_check.py
(network_check).
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mlperf.core import catalog
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import SUMMARY
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.submission.check.logs import is_readable
from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.submission.check.problem import make_fault
from pytest_mlperf.core.submission.check.tree import Home
from pytest_mlperf.core.submission.check.tree import Result
from pytest_mlperf.core.submission.check.tree import Tree

MARK = "Network SUT"
"""What a network system's SUT is called."""

shown_rule = make_fault("accuracy_examples")
sut_rule = make_fault("network_sut")


def example_problems(tree: Tree, result: Result) -> Iterator[Problem]:
    """The examples of a generated result are there (extra_files_check)."""
    name = tree.round.name
    facts = catalog.get(result.benchmark[0]) if result.benchmark else None
    if facts is None or (examples := facts.examples) is None:
        return
    folder = f"{tree.layout.accuracy(*result.names)}/{examples.folder}"
    have = {file.partition(".")[0] for file in tree.listing.files(folder)}
    for sample in examples.samples.get(name, "").split():
        if sample not in have:
            path = f"{folder}/{sample}.{examples.suffix}"
            required = f"the answer to sample {sample}, which {name} wants shown"
            remedy = "add what the accuracy run made of it"
            yield shown_rule(path, "no such file", required, remedy)


def network_problems(tree: Tree, result: Result) -> Iterator[Problem]:
    """A system over a network has a SUT that says so."""
    home = Home(result.division, result.org)
    found = tree.description(home, result.system)
    if isinstance(found, Problem):
        return
    if str(found.get("is_network", "")).lower() != "true":
        return
    folder = str(tree.layout.performance(*result.names))
    if not is_readable(tree.listing, folder, (SUMMARY, DETAIL)):
        return
    try:
        name = Log.read(tree.listing.root / folder).text("sut_name")
    except LogError:
        return  # The judge says why.
    if MARK not in name:
        path = f"{folder}/{DETAIL}"
        remedy = "let the SUT be called so (LoadGen, Name()), and repeat the run"
        yield sut_rule(path, f"sut_name {name[:40]!r}", f"... {MARK!r} ...", remedy)
