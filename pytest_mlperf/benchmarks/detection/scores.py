"""Mean average precision of COCO, from the answers in LoadGen's log."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.benchmarks.detection.annotations import Annotations
from pytest_mlperf.benchmarks.files import require_package

COLUMNS = 7
"""Of an object in an answer: the sample's index, y_min, x_min, y_max, x_max as shares
of the picture's sides, score, label; float32 each."""
ROW_BYTES = 4 * COLUMNS
UNKNOWN = -1
"""Id of no category."""
Floats = NDArray[np.float32]


def require_evaluator() -> None:
    """Raise ``RequirementMissing`` unless the package that computes mAP is there."""
    require_package(
        "faster-coco-eval",
        "mAP cannot be computed",
        "pip install 'pytest-mlperf[detection]'",
        "faster_coco_eval",
    )


def read_answers(answers: Mapping[int, bytes], samples: int) -> Floats:
    """Return the objects of all answers: [objects, 7]; the first column is the sample.

    An empty answer has none. Raises ``ValueError`` for an unknown sample, an answer of
    another form, and one that names another sample.
    """
    parts = [np.empty((0, COLUMNS), np.float32)]
    for index, answer in sorted(answers.items()):
        if not 0 <= index < samples:
            raise ValueError(
                f"there is an answer for sample {index}, but the samples should be 0"
                f" to {samples - 1}; the log is of another dataset"
            )
        if len(answer) % ROW_BYTES:
            raise ValueError(
                f"the answer for sample {index} has {len(answer)} bytes, but should"
                f" have {ROW_BYTES} an object; the log is of another benchmark"
            )
        rows = np.frombuffer(answer, "<f4").reshape(-1, COLUMNS)
        if (rows[:, 0] != index).any():
            other = rows[rows[:, 0] != index][0, 0]
            raise ValueError(
                f"the answer for sample {index} is of sample {other:g}, but both should"
                " be the same; the answers were mixed up, or the log is of another run"
            )
        parts.append(rows)
    return np.concatenate(parts)


def compute_map(
    found: Floats, annotations: Annotations, categories: NDArray[np.int64] | None
) -> float:
    """Return mAP over intersections of 0.5 to 0.95, percent, over every picture.

    ``categories``: label -> category id, where they differ. Arithmetic in float32 and
    its order are those of the reference's accuracy-coco.py, so that equal answers
    score equally.
    """
    require_evaluator()
    from faster_coco_eval import COCO
    from faster_coco_eval import COCOeval_faster

    samples = found[:, 0].astype(np.int64)
    scale = annotations.sizes.astype(np.float32)[samples][:, [0, 1, 0, 1]]
    y_min, x_min, y_max, x_max = (found[:, 1:5] * scale).T
    labels = found[:, 6].astype(np.int64)
    if categories is not None:
        # A label that the dataset has not is of no category, and wrong.
        known = (labels >= 0) & (labels < len(categories))
        labels = np.where(known, categories[np.where(known, labels, 0)], UNKNOWN)
    columns = (
        annotations.image_ids[samples],
        x_min,
        y_min,
        x_max - x_min,
        y_max - y_min,
        found[:, 5],
        labels,
    )
    rows = np.stack([column.astype(np.float64) for column in columns], axis=1)
    truth = COCO(dict(annotations.content))
    evaluator = COCOeval_faster(
        truth, truth.loadRes(rows), "bbox", print_function=lambda *_: None
    )
    evaluator.run()
    return max(0.0, 100.0 * float(evaluator.stats[0]))
