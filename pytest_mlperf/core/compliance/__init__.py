"""Compliance tests, one file each: settings as data, verification as pure functions.

Every number is from the compliance/ folder of mlcommons/inference; nothing here runs
LoadGen, and nothing else verifies.
"""

from __future__ import annotations

from pytest_mlperf.core.compliance.audit import Audit
from pytest_mlperf.core.compliance.audit import AuditedRun
from pytest_mlperf.core.compliance.audit import AuditFinding
from pytest_mlperf.core.compliance.audit import AuditTest
from pytest_mlperf.core.compliance.registry import find
from pytest_mlperf.core.compliance.registry import get
from pytest_mlperf.core.compliance.registry import names
from pytest_mlperf.core.compliance.registry import register
from pytest_mlperf.core.compliance.registry import verify
from pytest_mlperf.core.compliance.registry import write

__all__ = [
    "Audit",
    "AuditFinding",
    "AuditTest",
    "AuditedRun",
    "find",
    "get",
    "names",
    "register",
    "verify",
    "write",
]
