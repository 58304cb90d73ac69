"""What a submission is written from: requests, contents, and a look at its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pytest_mlperf.core.submission.choose import choose
from pytest_mlperf.core.submission.documents import SubmissionSession
from pytest_mlperf.core.submission.request import SubmissionRequest
from pytest_mlperf.core.submission.runs import Run
from pytest_mlperf.submission import tree

SESSION = SubmissionSession(
    ["suites", "-n", "8"], ["--mlperf-round=v6.1"], ["SYSTEM_NAME"]
)


BERT = (("bert", "99", ("SingleStream", "Offline")),)


def ask_of(round_name: str = "v6.1", **fields: object) -> SubmissionRequest:
    ask = SubmissionRequest("ACME", round_name, "closed", "edge", "box")
    return replace(ask, **fields)  # type: ignore[arg-type]


def make_content(
    runs: list[Run], ask: SubmissionRequest, **fields: object
) -> tree.Content:
    """Return what a tree of these runs is written from."""
    choice = choose(runs, ask)
    assert choice.refusals == ()
    made = tree.Content(ask, choice.entries, describe_system(ask), SESSION)
    return replace(made, **fields)  # type: ignore[arg-type]


def describe_system(ask: SubmissionRequest) -> str:
    """Return systems/box.json with a value in every field."""
    from pytest_mlperf.core.submission import description as described

    known = dict.fromkeys(described.FIELDS, "N/A") | {"status": "available"}
    known |= dict.fromkeys(described.COUNTS, "1") | {"system_name": "A box"}
    found = described.describe(
        known,
        round_name=ask.round,
        org=ask.org,
        division=ask.division,
        category=ask.category,
    )
    return described.to_json(found)


def read_files(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()
    }


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
