"""The compliance tests that are known: the official ones, and those registered."""

from __future__ import annotations

from pathlib import Path

from pytest_mlperf.core.compliance.audit import Audit
from pytest_mlperf.core.compliance.audit import AuditedRun
from pytest_mlperf.core.compliance.audit import AuditFinding
from pytest_mlperf.core.compliance.audit import AuditTest
from pytest_mlperf.core.compliance.audit import References
from pytest_mlperf.core.compliance.test01 import TEST01
from pytest_mlperf.core.compliance.test04 import TEST04
from pytest_mlperf.core.compliance.test04 import TEST04_A
from pytest_mlperf.core.compliance.test04 import TEST04_B
from pytest_mlperf.core.compliance.test05 import TEST05
from pytest_mlperf.core.compliance.test06 import TEST06
from pytest_mlperf.core.compliance.test07 import TEST07
from pytest_mlperf.core.compliance.test08 import TEST08
from pytest_mlperf.core.compliance.test09 import TEST09
from pytest_mlperf.core.logs.accuracy import ACCURACY_TXT
from pytest_mlperf.core.logs.accuracy import digest_log
from pytest_mlperf.core.rounds.rule import Rule

OFFICIAL: tuple[AuditTest, ...] = (
    TEST01, TEST04, TEST04_A, TEST04_B, TEST05, TEST06, TEST07, TEST08, TEST09,
)  # fmt: skip
"""Every official test of any round, in the order of a cell's items."""

_tests: dict[str, AuditTest] = {test.name: test for test in OFFICIAL}


def register(test: AuditTest) -> None:
    """Add a third party's test; ``ValueError`` where another has its name."""
    known = _tests.setdefault(test.name, test)
    if known is not test:
        raise ValueError(f"two compliance tests are called {test.name!r}")


def names() -> tuple[str, ...]:
    """Return every known test, in the order of a cell's items."""
    return tuple(_tests)


def get(name: str) -> AuditTest:
    """Return a test by its name; ``ValueError`` for an unknown one."""
    if name not in _tests:
        raise ValueError(f"{name!r} is no compliance test; known: {', '.join(_tests)}")
    return _tests[name]


def find(name: str, rule: Rule) -> Audit:
    """Return a compliance test's settings for a rule.

    Raises ``ValueError`` for a test that the rule's benchmark does not have.
    """
    if name not in rule.compliance:
        has = ", ".join(rule.compliance) or "none"
        raise ValueError(
            f"{name!r} is no compliance test of {rule.model} in {rule.round}; it has "
            f"{has}"
        )
    return get(name).resolve(rule)


def verify(
    audit: Audit, rule: Rule, folder: Path, references: References
) -> tuple[AuditFinding, ...]:
    """Return what the official definitions say of the audited run in a folder.

    Never raises for what is in the folders: a log that cannot be read is a check in
    error.
    """
    return audit.test.verify(AuditedRun(audit, rule, folder, references))


def write(
    audit: Audit,
    folder: Path,
    findings: tuple[AuditFinding, ...],
    references: References | None = None,
) -> None:
    """Write the official files into the run's folder, and the answers' hash.

    A pair of tests has one file, and the checker looks for it beside the other run.
    """
    pair = (references or {}).get(audit.test.pair_with)
    for home in (folder, *([pair] if pair else [])):
        for finding in findings:
            (home / finding.file).write_text(finding.text, encoding="utf-8")
    if audit.samples_answers:
        text = f"hash={digest_log(folder)}\n"
        (folder / ACCURACY_TXT).write_text(text, encoding="utf-8")
