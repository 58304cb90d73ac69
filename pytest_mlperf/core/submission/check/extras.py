"""What single benchmarks and network systems have to show beside their logs.

Sources: mlcommons/inference b66003e1, tools/submission/submission_checker/
constants.py (REQUIRED_ACC_BENCHMARK, v5.0 on) and checks/performance_check.py
(network_check).
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import SUMMARY
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.submission.check.logs import readable
from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.submission.check.problem import rule
from pytest_mlperf.core.submission.check.tree import Home
from pytest_mlperf.core.submission.check.tree import Result
from pytest_mlperf.core.submission.check.tree import Tree

IMAGES = ("stable-diffusion-xl", "images", "png")
VIDEOS = ("wan-2.2-t2v-a14b", "videos", "mp4")
SHOWN = {
    ("v5.0", IMAGES): "4459 4015 2705 1682 4048 4683 3757 1578 3319 95",
    ("v5.1", IMAGES): "2747 2235 2165 1515 1538 1367 2419 4629 3657 4532",
    ("v6.0", IMAGES): "1311 2476 3644 2188 4114 52 388 1195 3427 2289",
    ("v6.0", VIDEOS): "130 106 84 59 12 31 86 122 233 96",
    ("v6.1", VIDEOS): "130 106 84 59 12 123 43 22 238 32",
}
"""Round and kind -> samples whose answers are shown in accuracy/<kind>/."""
MARK = "Network SUT"
"""What a network system's SUT is called."""

shown_rule = rule("accuracy_examples")
sut_rule = rule("network_sut")
endpoint_rule = rule("endpoints")


def example_problems(tree: Tree, result: Result) -> Iterator[Problem]:
    """The examples of a generated result are there (extra_files_check)."""
    for (name, (benchmark, kind, suffix)), samples in SHOWN.items():
        if tree.round.name != name or (result.benchmark or ("",))[0] != benchmark:
            continue
        folder = f"{tree.layout.accuracy(*result.names)}/{kind}"
        have = {file.partition(".")[0] for file in tree.listing.files(folder)}
        for sample in samples.split():
            if sample not in have:
                path = f"{folder}/{sample}.{suffix}"
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
    if not readable(tree.listing, folder, (SUMMARY, DETAIL)):
        return
    try:
        name = Log.read(tree.listing.root / folder).text("sut_name")
    except LogError:
        return  # The judge says why.
    if MARK not in name:
        path = f"{folder}/{DETAIL}"
        remedy = "let the SUT be called so (LoadGen, Name()), and repeat the run"
        yield sut_rule(path, f"sut_name {name[:40]!r}", f"... {MARK!r} ...", remedy)


def endpoints(tree: Tree, result: Result) -> bool:
    """True for a result of the endpoints harness, which has no LoadGen logs."""
    listing = tree.listing
    details = (
        f"{tree.layout.performance(*result.names)}/{DETAIL}",
        f"{tree.layout.accuracy(*result.names)}/{DETAIL}",
    )
    config = f"{result.path}/config.yaml"
    return listing.is_file(config) and not any(map(listing.is_file, details))


def endpoint_problem(result: Result) -> Problem:
    """Return that a result was not judged: nothing here reads that format."""
    remedy = "check it with --checker and the official checker of v6.1 or later"
    found = "a result of the endpoints harness"
    return endpoint_rule(result.path, found, "LoadGen's logs", remedy)
