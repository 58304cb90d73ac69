"""COCO 2017's validation set: where its files lie and come from."""

from __future__ import annotations

from pathlib import Path

from pytest_mlperf.api.sources import Source

INFERENCE = "MLCommons' inference repository"
FOLDERS = ("data/coco", "coco")
"""Of NVIDIA's scratch layout and of the reference's README."""
ANNOTATIONS = Source(
    paths=tuple(f"{f}/annotations/instances_val2017.json" for f in FOLDERS),
    origin="annotations_trainval2017.zip of cocodataset.org",
    terms="CC-BY-4.0",
)
FIRST_PICTURE = Source(
    paths=tuple(f"{folder}/val2017/000000000139.jpg" for folder in FOLDERS),
    origin="val2017.zip of cocodataset.org, with the other 4,999 pictures",
    terms="Flickr's terms of use",
)
CALIBRATION = Source(
    paths=("data/coco/coco_cal_images_list.txt", "data_maps/coco/cal_map.txt"),
    origin=f"calibration/COCO of {INFERENCE}",
    use="int8 only",
)
CALIBRATION_FOLDERS = tuple(Path(folder) / "train2017" for folder in FOLDERS)
"""The list names training pictures."""
PICTURES = 5000
