"""What the detection benchmarks share: a description each, and how it is opened."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.sources import Source
from pytest_mlperf.api.sources import files_digest
from pytest_mlperf.api.sources import missing_files
from pytest_mlperf.api.sources import require_files
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.api.workload import read_each
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.detection import scores
from pytest_mlperf.benchmarks.detection.annotations import check_pictures
from pytest_mlperf.benchmarks.detection.annotations import read_annotations
from pytest_mlperf.benchmarks.detection.embedded import open_embedded
from pytest_mlperf.benchmarks.detection.letterbox import Letterbox
from pytest_mlperf.benchmarks.detection.letterbox import letterbox
from pytest_mlperf.benchmarks.detection.outputs import FindObjects
from pytest_mlperf.benchmarks.detection.pictures import PictureFiles
from pytest_mlperf.benchmarks.detection.pictures import Prepare
from pytest_mlperf.benchmarks.detection.pictures import stretch
from pytest_mlperf.benchmarks.detection.synthetic import open_synthetic
from pytest_mlperf.benchmarks.detection.workload import DetectionWorkload
from pytest_mlperf.core.rounds.rule import Rule


@dataclass(frozen=True, slots=True)
class Official:
    """The official model and dataset of a detection benchmark."""

    title: str
    model: Source
    annotations: Source
    first_picture: Source
    """Stands for all: the folder it lies in has every picture."""
    calibration: Source
    """Names of the pictures that calibrate int8, a line each."""
    calibration_folders: tuple[Path, ...]
    """Where these pictures lie, looked in in this order."""
    pictures: int
    performance_count: int
    """``performance_sample_count_override`` of mlperf.conf."""
    side: int
    """Of the model's input, in pixels."""
    input: str
    outputs: tuple[str, ...]
    prepare: Prepare
    find: FindObjects
    counts_classes: bool = False
    """Labels count the categories from 1, as the annotation file lists them."""
    letterboxes: bool = False
    """Pictures keep their shape, in a gray square; they are stretched otherwise."""

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.model, self.annotations, self.first_picture, self.calibration)


def read_input_shape(path: Path, name: str) -> tuple[int, ...]:
    """Return the shape of a model's input; 0 where a dimension is free.

    Raises ``ValueError`` for a file that is no model, or has no such input.
    """
    files.require_package("onnx", "the official model cannot be read")
    import onnx

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # protobuf's own exceptions
        raise ValueError(
            f"{path} is no ONNX model ({type(error).__name__}: {error}); copy it again"
            " from where it is offered"
        ) from error
    shapes = {
        value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in graph.input
    }
    if name not in shapes:
        raise ValueError(
            f"{path} has the inputs {', '.join(shapes)}, but should have {name}; use"
            " the model that the reference implementation names"
        )
    return shapes[name]


@dataclass(frozen=True, slots=True)
class DetectionBenchmark:
    """A detection benchmark as it registers itself."""

    name: str
    aliases: tuple[str, ...]
    official: Official
    open_generated: Callable[[], DetectionWorkload] | None = None
    """Opens the architecture with made-up weights, where it is known here."""
    metric: str = "mAP"
    takes: frozenset[str] = frozenset({"tensors"})
    rules: tuple[Rule, ...] = ()
    rehearses: bool = True

    @property
    def sources(self) -> tuple[Source, ...]:
        return self.official.sources

    def precision(self, target: str) -> str:  # noqa: ARG002
        """Return int8: within 99 % of fp32 (see PROVENANCE.md)."""
        return "int8"

    def open_workload(self, kind: str, scratch: Path | None) -> DetectionWorkload:
        """Open the workload of a kind.

        Raises ``RequirementMissing`` for absent files or packages, ``ValueError`` for
        wrong files or another kind.
        """
        if kind == "embedded":
            return open_embedded(self.name)
        if kind == "official":
            return self._open_official(scratch)
        if kind == "synthetic":
            official = self.official
            return open_synthetic(
                self.name, official.pictures, official.performance_count
            )
        if kind == "generated" and self.open_generated is not None:
            return self.open_generated()
        generated = ["generated"] * (self.open_generated is not None)
        kinds = "official", "embedded", *generated, "synthetic"
        raise files.unknown_kind(self.name, kind, *kinds)

    def _open_official(self, scratch: Path | None) -> DetectionWorkload:
        """Open the official model and pictures in the scratch folder.

        The digest covers the model and the annotations; the pictures themselves are
        covered by name only.
        """
        scores.require_evaluator()
        official = self.official
        needed = (official.model, official.annotations)
        model, path = require_files(self.name, needed, scratch, files.USE_EMBEDDED)
        annotations = read_annotations(path)
        pictures = self._find_pictures(annotations.file_names, scratch)
        check_pictures(pictures)
        shape = read_input_shape(model, official.input)
        open_pictures = partial(
            PictureFiles,
            name=official.input,
            side=official.side,
            prepare=official.prepare,
            channels_first=shape[3:] != (3,),
            fit=letterbox if official.letterboxes else stretch,
        )
        categories = None
        if official.counts_classes:
            categories = np.array([0, *annotations.category_ids])
        return DetectionWorkload(
            kind="official",
            title=f"{official.title} ({len(pictures):,} pictures)",
            digest=files_digest([model, path]),
            model=ModelFile(
                path=model,
                inputs=(official.input,),
                outputs=official.outputs,
                calibration=partial(self._read_calibration, scratch, open_pictures),
                one_by_one=shape[:1] == (1,),
            ),
            dataset=open_pictures(pictures, official.performance_count),
            reference={},
            annotations=annotations,
            find=official.find,
            categories=categories,
            letterbox=(
                Letterbox(official.side, annotations.sizes)
                if official.letterboxes
                else None
            ),
        )

    def _find_pictures(self, names: Sequence[str], scratch: Path | None) -> list[Path]:
        """Return each picture; raises ``RequirementMissing`` if one is absent."""
        official = self.official
        root = scratch or Path()
        folders = [(root / place).parent for place in official.first_picture.paths]
        folder = next((f for f in folders if (f / names[0]).is_file()), folders[0])
        pictures = [folder / name for name in names]
        missing = [path for path in pictures if not path.is_file()]
        if missing:
            examples = ", ".join(str(path) for path in missing[:2])
            text = f"{len(missing)} of {len(pictures)} pictures ({examples} ...)"
            raise missing_files(
                self.name, [text], official.sources, scratch, files.USE_EMBEDDED
            )
        return pictures

    def _read_calibration(
        self,
        scratch: Path | None,
        open_pictures: Callable[[Sequence[Path], int], Dataset],
    ) -> Iterator[Batch]:
        """Return the pictures of the official calibration list, one a batch."""
        official = self.official
        (path,) = require_files(
            self.name, [official.calibration], scratch, "choose --mlperf-precision fp32"
        )
        names = [line.strip() for line in path.read_text().splitlines() if line.strip()]
        root, pictures = scratch or Path(), []
        for name in names:
            places = [root / folder / name for folder in official.calibration_folders]
            found = next((place for place in places if place.is_file()), None)
            if found is None:
                raise RequirementMissing(
                    f"{places[0]}, which {path} lists, is not there; download the"
                    f" calibration pictures, or choose --mlperf-precision fp32"
                )
            pictures.append(found)
        return read_each(open_pictures(pictures, 1))
