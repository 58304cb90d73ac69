"""Every check of a run, in the order of a verdict."""

from __future__ import annotations

from pytest_mlperf.core.checks import accuracy
from pytest_mlperf.core.checks import audit
from pytest_mlperf.core.checks import consistency
from pytest_mlperf.core.checks import device
from pytest_mlperf.core.checks import forgeries
from pytest_mlperf.core.checks import latency
from pytest_mlperf.core.checks import loadgen
from pytest_mlperf.core.checks import metric
from pytest_mlperf.core.checks import requests
from pytest_mlperf.core.checks import result
from pytest_mlperf.core.checks import settings
from pytest_mlperf.core.checks import summary
from pytest_mlperf.core.checks.rule_check import RuleCheck

CHECKS: tuple[RuleCheck, ...] = (
    settings.test_mode,
    settings.scenario,
    consistency.requested_settings,
    consistency.loaded_samples,
    loadgen.loadgen_unmodified,
    loadgen.loadgen_version,
    loadgen.no_audit_config,
    loadgen.no_errors,
    forgeries.errors_counted,
    summary.summary_agrees,
    forgeries.accuracy_summary,
    result.loadgen_validity,
    result.flags_agree,
    consistency.generated_queries,
    forgeries.generated_duration,
    result.wall_time,
    result.min_duration,
    result.min_sample_count,
    result.min_query_count,
    latency.early_stopping_met,
    settings.target_percentile,
    settings.samples_per_query,
    latency.latency_bound,
    settings.target_latency_setting,
    settings.seeds,
    settings.performance_sample_count,
    settings.issue_modes,
    settings.token_latencies,
    metric.metric_present,
    requests.requests_resent,
    requests.request_fields,
    device.on_device,
    audit.audit_settings,
    accuracy.whole_dataset,
    accuracy.dataset_size,
    accuracy.accuracy_targets,
    accuracy.accuracy_hash,
)
