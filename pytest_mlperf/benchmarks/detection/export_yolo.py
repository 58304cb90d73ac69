"""From yolo's official checkpoint to the graph that engines read."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.api.sources import Source
from pytest_mlperf.api.sources import require_files
from pytest_mlperf.benchmarks.files import require_package

NAME, SIDE = "yolo11l", 640
PLACES = ("models/yolo/", "models/", "")
"""Below the scratch folder."""
CHECKPOINT = Source(
    paths=tuple(f"{place}{NAME}.pt" for place in PLACES),
    origin="YOLO-model of yolo.mlcommons-storage.org by MLCommons' R2 downloader (mlcr"
    " get-ml-model-yolov11,_mlc,_r2-downloader)",
    use=f"to make {NAME}.onnx",
    terms="AGPL-3.0, Ultralytics'",
)
MODEL = Source(
    paths=tuple(f"{place}{NAME}.onnx" for place in PLACES),
    origin=f"{NAME}.pt by: pytest-mlperf data preprocess yolo",
)
EXTRA = "pip install ultralytics onnx (Ultralytics is under AGPL-3.0)"


@dataclass(frozen=True, slots=True)
class YoloExport:
    """One item: the graph, with a free batch dimension."""

    def list_items(self, scratch: Path) -> Sequence[str]:
        if MODEL.find(scratch) is None:
            require_files("yolo", [CHECKPOINT], scratch)
            consequence = "the checkpoint cannot be read"
            require_package("ultralytics", consequence, EXTRA)
            require_package("onnx", consequence, EXTRA)
        return (f"{NAME}.onnx",)

    def is_made(self, scratch: Path, item: str) -> bool:  # noqa: ARG002 - the only one
        return MODEL.find(scratch) is not None

    def make(self, scratch: Path, item: str) -> None:
        """Export as Ultralytics does it, without its own suppression.

        Raises ``ValueError`` for a file that is no checkpoint of a detector.
        """
        # Ultralytics would install packages and report its use otherwise.
        os.environ |= {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
        from ultralytics import YOLO

        checkpoint = CHECKPOINT.find(scratch)
        assert checkpoint is not None, "list_items has looked"
        with tempfile.TemporaryDirectory(dir=checkpoint.parent) as folder:
            copy = Path(folder) / checkpoint.name
            shutil.copyfile(checkpoint, copy)
            try:
                made = YOLO(copy).export(
                    format="onnx", imgsz=SIDE, dynamic=True, simplify=False, nms=False
                )
            except Exception as error:  # of PyTorch, pickle and Ultralytics
                raise ValueError(
                    f"{checkpoint} cannot be exported ({type(error).__name__}:"
                    f" {error}); it should be Ultralytics' {NAME}.pt: download it again"
                ) from error
            Path(made).replace(checkpoint.with_name(item))

    def finish(self, scratch: Path) -> str:
        return str(MODEL.find(scratch))


PREPROCESSING = YoloExport()
