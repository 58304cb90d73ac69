"""What an accuracy run leaves: the answers LoadGen logged, and accuracy.txt."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.core.logfile import LogError
from pytest_mlperf.core.logfile import lines
from pytest_mlperf.core.logfile import parse

ACCURACY = "mlperf_log_accuracy.json"
ACCURACY_TXT = "accuracy.txt"

# mlcommons/inference b66003e1 tools/submission/submission_checker/constants.py
# ACC_PATTERN, plus WER of the rounds that have rnnt. The value is the first group.
PATTERNS = {
    "acc": r"^(?:\{\"accuracy|accuracy)[\": ]*=?\s*([\d.]+)",
    "AUC": r"^AUC=([\d.]+)",
    "DLRM_NE": r"metric/lifetime_ne/rating:\s*([\d.]+)",
    "DLRM_ACC": r"metric/lifetime_accuracy/rating:\s*([\d.]+)",
    "DLRM_AUC": r"metric/lifetime_gauc/rating:\s*([\d.]+)",
    "mAP": r"(?:mAP=|'Total':)\s*([\d.]+)",
    "F1": r"^{[\"']exact_match[\"']:\s*[\d.]+,\s*[\"']f1[\"']:\s*([\d.]+)}",
    "WER": r"Word Error Rate:.*, accuracy=([\d.]+)%",
    "ACCURACY": r"Word Error Rate:.*, accuracy=([\d.]+)%",
    "DICE": r"Accuracy:\s*mean\s*=\s*([\d.]+)",
    "ROUGE1": r"'rouge1':\s+'?([\d.]+)",
    "ROUGE2": r"'rouge2':\s+'?([\d.]+)",
    "ROUGEL": r"'rougeL':\s+'?([\d.]+)",
    "ROUGELSUM": r"'rougeLsum':\s+'?([\d.]+)",
    "GEN_LEN": r"'gen_len':\s([\d.]+)",
    "TOKENS_PER_SAMPLE": r"'tokens_per_sample':\s([\d.]+)",
    "CLIP_SCORE": r"'CLIP_SCORE':\s+'?([\d.]+)",
    "FID_SCORE": r"'FID_SCORE':\s+'?([\d.]+)",
    "gsm8k_accuracy": r"'gsm8k':\s([\d.]+)",
    "mbxp_accuracy": r"'mbxp':\s([\d.]+)",
    "exact_match": r"'exact_match':\s([\d.]+)",
    "vbench_score": r"'vbench_score':\s([\d.]+)",
    "F1_HIERARCHICAL": r"\{.*\"f1\":\s*([\d.]+).*\}",
    "E2E_ACCURACY": r"Accuracy:\s*([\d.]+)",
}
HASH = re.compile(r"hash=([0-9a-fA-F]{64})\s*$")


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What accuracy.txt says."""

    metrics: Mapping[str, float]
    """Metric -> value, in the unit the file prints."""
    lines: Mapping[str, int]
    hash: str
    """sha256 of the accuracy log it was computed from; empty when it is not there."""

    def where(self, metric: str) -> str:
        """Return ``accuracy.txt:1``; the file alone when the metric is not there."""
        line = self.lines.get(metric)
        return f"{ACCURACY_TXT}:{line}" if line else ACCURACY_TXT


def read_accuracy(folder: Path) -> dict[int, bytes]:
    """Return sample index -> answer from mlperf_log_accuracy.json, streaming.

    An index may come twice with the same answer, because MultiStream fills its last
    query up. Raises ``LogError`` for a log that is cut, that is no accuracy log, or
    that answers one sample in two ways.
    """
    path = folder / ACCURACY
    answers: dict[int, bytes] = {}
    opened = closed = False
    number = 0
    for number, text in lines(path):
        line = text.strip()
        if closed:
            raise LogError(
                path, number, f"{line[:40]!r}", "nothing after the closing ]"
            )
        if not opened:
            if line != "[":
                raise LogError(path, number, f"{line[:40]!r}", "an opening [")
            opened = True
        elif line == "]":
            closed = True
        else:
            index, answer = _entry(path, number, line)
            if answers.setdefault(index, answer) != answer:
                found = f"a second, different answer for sample {index}"
                remedy = "make the engine deterministic: LoadGen asked it twice"
                raise LogError(path, number, found, "one answer a sample", remedy)
    if not closed:
        raise LogError(path, number, "the end of the log without ]", "a whole log")
    return answers


def _entry(path: Path, number: int, line: str) -> tuple[int, bytes]:
    record = parse(path, number, line.removesuffix(","))
    try:
        index, data = record["qsl_idx"], record["data"]
        if type(index) is not int or index < 0:
            raise ValueError(f"qsl_idx {index!r}")
        return index, bytes.fromhex(data)
    except (KeyError, TypeError, ValueError) as error:
        found = f"{line[:60]!r} ({str(error)[:40]})"
        required = "a record with qsl_idx and hexadecimal data"
        raise LogError(path, number, found, required) from None


def read_accuracy_txt(folder: Path) -> Accuracy:
    """Return the metrics of accuracy.txt by the official patterns, and its hash.

    The first match of each metric counts, as in the official checker. Raises
    ``LogError`` for a missing or unreadable file and for a value that is no number.
    """
    path = folder / ACCURACY_TXT
    metrics: dict[str, float] = {}
    places: dict[str, int] = {}
    hashed = ""
    for number, text in lines(path):
        if found := HASH.match(text.strip()):
            hashed = hashed or found[1].lower()
            continue
        for metric, pattern in _COMPILED.items():
            if metric not in metrics and (match := pattern.search(text)):
                try:
                    metrics[metric] = float(match[1])
                except ValueError:
                    raise LogError(path, number, match[1], "a number") from None
                places[metric] = number
    return Accuracy(metrics, places, hashed)


_COMPILED = {metric: re.compile(pattern) for metric, pattern in PATTERNS.items()}


def digest(folder: Path) -> str:
    """Return the sha256 of the accuracy log; ``LogError`` when it is not there."""
    path = folder / ACCURACY
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        found = f"{error.strerror or error}".lower()
        raise LogError(path, 0, found, "LoadGen's accuracy log") from None
