"""ResNet-50 v1.5: image classification."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Formula

DETECTORS = "ssdlite|ssdinception|yolo|ssdmobilenet|ssdresnet50"

FACTS = BenchmarkFacts(
    "resnet50",
    aliases=(
        "resnet",  # checker
        "resnet50-v1.5",  # prose
        "mobilenet",  # checker, model_mapping
    ),
    # The checker looks for detectors first.
    guesses=((rf"^(?!.*({DETECTORS})).*(mobilenet|efficientnet|resnet50)", ""),),
    checker_name="resnet",
    checker_folders="resnet|.*(mobilenet|efficientnet|resnet50).*",
    logged_answers=4096,
    guide_in=Formula(150_528, "3 x 224 x 224"),
    rules_in=Formula(150_528, "3 x 224 x 224 x type", scaled=True),
)
