"""Compliance tests: their settings as data, their verification as pure functions.

Every number is from the compliance/ folder of mlcommons/inference; nothing here runs
LoadGen, and nothing else verifies.
"""

from __future__ import annotations

from pytest_mlperf.core.compliance.audit import AUDITS
from pytest_mlperf.core.compliance.audit import Audit
from pytest_mlperf.core.compliance.audit import find
from pytest_mlperf.core.compliance.report import official_files
from pytest_mlperf.core.compliance.verify import Finding
from pytest_mlperf.core.compliance.verify import References
from pytest_mlperf.core.compliance.verify import verify
from pytest_mlperf.core.compliance.verify import write

__all__ = [
    "AUDITS",
    "Audit",
    "Finding",
    "References",
    "find",
    "official_files",
    "verify",
    "write",
]
