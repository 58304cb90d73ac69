"""Since and until which round the official checker asks for a rule of the tree.

A tree of an older round passed review without it. Source: tools/submission of
mlcommons/inference at the tags v2.0 to v5.1.1 and b66003e1; before v3.0
mlcommons/power-dev at the commit that the tag names. Rules that are not here are
older than v1.0, or our own.
"""

from __future__ import annotations

from pytest_mlperf.core import rounds

SINCE = {
    # Rules that are asked for as a whole.
    "file_names": "v3.0",
    "file_size": "v3.0",
    "empty_folders": "v3.0",
    "root": "v3.1",
    "division": "v3.1",
    "systems_and_results": "v5.1",
    "system_numbers": "v6.0",
    "nameplate_power": "v6.1",
    # Parts of rules: what the functions that look at them ask for by name.
    "audit_files": "v2.1",
    "meaningful_fields": "v3.1",
    "meter_notes": "v3.1",
    "even_watts": "v3.1",
    "four_ranges": "v5.1",
}
"""Rule, or a part of one -> the first round whose checker refuses a tree by it."""
UNTIL = {
    "systems_and_results": "v5.1",
    "extra_files": "v5.1",
}
"""Rule, or a part of one -> the last round whose checker refuses a tree by it.

The checker of v6.0 and v6.1 was written anew. It opens the descriptions of systems with
results alone, and counts the files of power and compliance runs alone.
"""
PTD_VERSIONS = (
    ("v5.0", ("1.11.1",)),
    ("v3.0", ("1.10.0",)),
    ("v1.0", ("1.9.1", "1.9.2")),
)
"""First round -> versions of PTDaemon that its checker takes (SUPPORTED_VERSION)."""
CLOCKS_APART_S = (
    ("v4.0", 0.8),
    ("v3.1", 0.5),
    ("v3.0", 1.0),
    ("v2.1", 0.5),
    ("v1.0", 0.2),
)
"""First round -> seconds that the clocks of a power session may differ."""


def is_asked(rule: str, round_name: str) -> bool:
    """True unless a rule is newer than the round, or was given up before it."""
    since, until = SINCE.get(rule), UNTIL.get(rule)
    if until is not None and rounds.is_before(until, round_name):
        return False
    return since is None or not rounds.is_before(round_name, since)


def find_ptd_versions(round_name: str) -> tuple[str, ...]:
    """Return the versions of PTDaemon that the round's checker takes, oldest first."""
    return next(
        versions
        for since, versions in PTD_VERSIONS
        if not rounds.is_before(round_name, since)
    )


def find_clock_tolerance(round_name: str) -> float:
    """Return the seconds that client's and server's clocks may differ in a round."""
    return next(
        seconds
        for since, seconds in CLOCKS_APART_S
        if not rounds.is_before(round_name, since)
    )
