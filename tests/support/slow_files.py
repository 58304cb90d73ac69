"""Files of tests that take a minute or so: several workers begin with them.

What begins last decides when all have ended. xdist begins with the files of most tests,
and these have few.
"""

from __future__ import annotations

SLOW_FILES = (
    "benchmarks/llm/test_embedded_runs.py",
    "engines/tensorrt/test_onnx_model.py",
    "docs/test_extend.py",
    "services/local/test_triton.py",
    "core/test_fuzz.py",
    "engines/tensorrt/test_build.py",
    "run/test_device_group.py",
    "plugin/test_xdist.py",
    "plugin/test_rehearsal.py",
    "benchmarks/test_bert.py",
    "docs/test_measure.py",
    "plugin/test_plugin.py",
    "plugin/test_usage_errors.py",
    "reporting/test_progress.py",
    "commands/test_tune.py",
    "plugin/test_reports.py",
    "services/test_endpoint_runs.py",
    "benchmarks/test_rnnt.py",
    "plugin/test_comparing.py",
    "plugin/test_service_cells.py",
    "plugin/test_termination.py",
    "plugin/test_compliance_items.py",
    "plugin/test_device_sessions.py",
    "sut/test_loadgen_runs.py",
)
"""Below tests/, the slowest first."""
