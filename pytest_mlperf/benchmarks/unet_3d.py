"""3d-unet: segmentation of volumes by sliding windows, mean Dice.

Official: the reference's 3D U-Net on 43 cases of KiTS19 (v2.0 and later; the cases of
BraTS 2019, which v1.0 and v1.1 have, are not read). Embedded: a small 3D U-Net on
blocks of the MNI152 brain template that ship with the project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pytest_mlperf.api.benchmark import Preprocessing
from pytest_mlperf.api.sources import Source
from pytest_mlperf.api.sources import files_digest
from pytest_mlperf.api.sources import missing_files
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.segmentation import kits19
from pytest_mlperf.benchmarks.segmentation.preprocess import PREPROCESSING
from pytest_mlperf.benchmarks.segmentation.volumes import LabeledVolume
from pytest_mlperf.benchmarks.segmentation.volumes import VolumeDataset
from pytest_mlperf.benchmarks.segmentation.volumes import check_volume
from pytest_mlperf.benchmarks.segmentation.workload import CLASSES
from pytest_mlperf.benchmarks.segmentation.workload import SegmentationWorkload
from pytest_mlperf.core.rounds.rule import Rule

EMBEDDED = files.EMBEDDED / "3d-unet"
EMBEDDED_SIDE, EMBEDDED_RUN = 32, 4
"""Side of a window in voxels; windows that one run of the small model takes."""
OFFICIAL_RUN = 2
"""Windows of 128 voxels a run: activations take about 1.5 GB each in fp32."""
RECORD = "https://zenodo.org/record/5597155"
MODEL = Source(
    paths=(
        "models/3d-unet-kits19/3dUNetKiTS19.onnx",
        "build/model/3dunet_kits19_128x128x128_dynbatch.onnx",
    ),
    origin="Zenodo record 5597155, 3dunet_kits19_128x128x128_dynbatch.onnx",
    urls=(f"{RECORD}/files/3dunet_kits19_128x128x128_dynbatch.onnx?download=1",),
)
VOLUMES = Source(
    paths=tuple(
        f"{folder}/{next(iter(kits19.CASES))}.pkl" for folder in kits19.FOLDERS
    ),
    origin="preprocess.py of MLCommons' inference repository with the other 42 cases,"
    " from github.com/neheller/kits19",
    terms="CC BY-NC-SA 4.0",
    parts=tuple((f"{name}.pkl", md5) for name, md5 in kits19.CASES.items()),
)
SOURCES = (MODEL, VOLUMES)


def open_embedded(folder: Path = EMBEDDED) -> SegmentationWorkload:
    """Open the stand-in that ships with the package.

    Raises ``ValueError`` when a file is not the one that the manifest records, or a
    volume cannot be used.
    """
    manifest = files.read_manifest(folder, "make_unet.py")
    model, data = folder / "model.onnx", folder / "volumes.npz"
    with np.load(data, allow_pickle=False) as arrays:
        count = len(arrays.files) // 2
        cases = [
            LabeledVolume(
                f"volume {number}",
                arrays[f"image_{number:02d}"][None].astype(np.float32) / 255,
                arrays[f"labels_{number:02d}"],
            )
            for number in range(count)
        ]
    for case in cases:
        check_volume(case, EMBEDDED_SIDE, CLASSES)
    return SegmentationWorkload(
        kind="embedded",
        title=f"embedded: a small 3D U-Net on {count} blocks of a brain template",
        digest=files_digest([model, data]),
        model=ModelFile(path=model, inputs=("input",), outputs=("output",)),
        dataset=VolumeDataset([case.image for case in cases], EMBEDDED_SIDE),
        reference=manifest["reference"],
        labels=[case.labels for case in cases],
        windows_a_run=EMBEDDED_RUN,
    )


def open_official(
    scratch: Path | None, cases: Mapping[str, str] = kits19.CASES
) -> SegmentationWorkload:
    """Open the reference's model and the 43 cases in the scratch folder.

    All cases are read into memory, 6 GB, hashed and checked. Raises
    ``RequirementMissing`` for what is absent, ``ValueError`` for a case that is not the
    official one.
    """
    model, folder = MODEL.find(scratch), kits19.find_folder(scratch, cases)
    found = {MODEL: model, VOLUMES: folder}
    absent = [source.label for source, path in found.items() if path is None]
    if model is None or folder is None:
        raise missing_files("3d-unet", absent, SOURCES, scratch, files.USE_EMBEDDED)
    volumes = kits19.read_cases(folder, cases)
    return SegmentationWorkload(
        kind="official",
        title=f"3D U-Net, KiTS19 ({len(volumes)} cases)",
        digest=files_digest([model], repr(dict(cases))),
        model=ModelFile(path=model, inputs=("input",), outputs=("output",)),
        dataset=VolumeDataset([case.image for case in volumes], kits19.SIDE),
        reference={},
        labels=[case.labels for case in volumes],
        windows_a_run=read_batch(model) or OFFICIAL_RUN,
    )


def read_batch(path: Path) -> int:
    """Return how many windows a graph takes, 0 where any number is taken."""
    files.require_package("onnx", "3d-unet's official graph cannot be read")
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    names = (
        [value.name for value in graph.input],
        [value.name for value in graph.output],
    )
    if names[0][:1] != ["input"] or names[1] != ["output"]:
        raise ValueError(
            f"{path} has the inputs {names[0]} and outputs {names[1]}, but should have"
            " 'input' and 'output'. Use the ONNX file of Zenodo record 5597155."
        )
    return int(graph.input[0].type.tensor_type.shape.dim[0].dim_value)


@dataclass(frozen=True, slots=True)
class UNet3DBenchmark:
    """The benchmark as it registers itself."""

    name: str = "3d-unet"
    aliases: tuple[str, ...] = ("unet3d",)
    metric: str = "DICE"
    takes: frozenset[str] = frozenset({"tensors"})
    rules: tuple[Rule, ...] = ()
    sources: tuple[Source, ...] = SOURCES
    preprocessing: Preprocessing = PREPROCESSING

    def precision(self, target: str) -> str:  # noqa: ARG002 - both targets
        """Return fp32: onnxruntime has no int8 kernels for transposed convolutions."""
        return "fp32"

    def open_workload(self, kind: str, scratch: Path | None) -> SegmentationWorkload:
        """Open ``embedded``, ``official`` or ``generated``.

        Raises ``RequirementMissing`` for absent files or packages, ``ValueError`` for
        wrong files or another kind.
        """
        if kind == "embedded":
            return open_embedded()
        if kind == "official":
            return open_official(scratch)
        if kind == "generated":
            from pytest_mlperf.benchmarks.standins import generated_unet

            return generated_unet.open_unet()
        kinds = "official", "embedded", "generated"
        raise files.unknown_kind(self.name, kind, *kinds)


UNET_3D = UNet3DBenchmark()
