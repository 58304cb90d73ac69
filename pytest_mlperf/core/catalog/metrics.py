"""The metrics of accuracy.txt: how each is printed and what it can be at most."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AccuracyMetric:
    """One metric of accuracy.txt."""

    pattern: str
    """Of the line; the value is the first group."""
    ceiling: float = math.inf
    """No share of a whole is larger, whatever a round's upper limit."""
    is_percent: bool = False
    """Shown with a percent sign."""


# Patterns: mlcommons/inference b66003e1 tools/submission/submission_checker/
# constants.py ACC_PATTERN, plus WER of the rounds that have rnnt. Two are bounded here,
# because a hostile line would take theirs minutes.
_WER = r"Word Error Rate:[^,]{0,80}, accuracy=([\d.]+)%"
METRICS = {
    "acc": AccuracyMetric(r"^(?:\{\"accuracy|accuracy)[\": ]*=?\s*([\d.]+)", 100, True),
    "AUC": AccuracyMetric(r"^AUC=([\d.]+)", 100, True),
    "DLRM_NE": AccuracyMetric(r"metric/lifetime_ne/rating:\s*([\d.]+)"),
    "DLRM_ACC": AccuracyMetric(r"metric/lifetime_accuracy/rating:\s*([\d.]+)"),
    "DLRM_AUC": AccuracyMetric(r"metric/lifetime_gauc/rating:\s*([\d.]+)"),
    "mAP": AccuracyMetric(r"(?:mAP=|'Total':)\s*([\d.]+)", 100),
    "F1": AccuracyMetric(
        r"^{[\"']exact_match[\"']:\s*[\d.]+,\s*[\"']f1[\"']:\s*([\d.]+)}", 100, True
    ),
    "WER": AccuracyMetric(_WER, 100, True),
    "ACCURACY": AccuracyMetric(_WER, 100, True),
    "DICE": AccuracyMetric(r"Accuracy:\s*mean\s*=\s*([\d.]+)", 1),
    "ROUGE1": AccuracyMetric(r"'rouge1':\s+'?([\d.]+)", 100),
    "ROUGE2": AccuracyMetric(r"'rouge2':\s+'?([\d.]+)", 100),
    "ROUGEL": AccuracyMetric(r"'rougeL':\s+'?([\d.]+)", 100),
    "ROUGELSUM": AccuracyMetric(r"'rougeLsum':\s+'?([\d.]+)", 100),
    "GEN_LEN": AccuracyMetric(r"'gen_len':\s([\d.]+)"),
    "TOKENS_PER_SAMPLE": AccuracyMetric(r"'tokens_per_sample':\s([\d.]+)"),
    "CLIP_SCORE": AccuracyMetric(r"'CLIP_SCORE':\s+'?([\d.]+)"),
    "FID_SCORE": AccuracyMetric(r"'FID_SCORE':\s+'?([\d.]+)"),
    "gsm8k_accuracy": AccuracyMetric(r"'gsm8k':\s([\d.]+)", 100),
    "mbxp_accuracy": AccuracyMetric(r"'mbxp':\s([\d.]+)", 100),
    "exact_match": AccuracyMetric(r"'exact_match':\s([\d.]+)", 100, True),
    "vbench_score": AccuracyMetric(r"'vbench_score':\s([\d.]+)"),
    "F1_HIERARCHICAL": AccuracyMetric(r"^[^{]*\{.*\"f1\":\s*([\d.]+)[^}]{0,4000}\}"),
    "E2E_ACCURACY": AccuracyMetric(r"Accuracy:\s*([\d.]+)", 100, True),
}


def find_pattern(metric: str) -> str:
    """Return the pattern of a metric's line; of one that no round has, in a benchmark
    of somebody's own, ``NAME=VALUE``.
    """
    known = METRICS.get(metric)
    return known.pattern if known else rf"^{re.escape(metric)}\s*[=:]\s*([\d.]+)"
