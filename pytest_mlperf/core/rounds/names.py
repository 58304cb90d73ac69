"""One name a benchmark: what folders, LoadGen models, checkers and prose call it."""

from __future__ import annotations

import re
from functools import cache

TARGETS: dict[str, tuple[str, ...]] = {
    "bert": ("99", "99.9"),
    "dlrm": ("99", "99.9"),
    "dlrm-v2": ("99", "99.9"),
    "3d-unet": ("99", "99.9"),
    "gptj": ("99", "99.9"),
    "llama2-70b": ("99", "99.9"),
    "yolo": ("95", "99"),
}
"""Benchmarks with an accuracy target in their name; the others have one target."""

# Sources. Checker: MODEL_CONFIG[round]["models"] and ["model_mapping"] of
# mlcommons/inference v2.0, v4.1, v5.0.1, v5.1.1 and b66003e1. LoadGen: the models in
# mlperf.conf of the same. Prose: the tables of inference_rules.adoc and the names of
# the reference implementations' folders and weights. Case, "-", "_", "." and blanks
# are alike, so one spelling of each stands for all.
ALIASES: dict[str, tuple[str, ...]] = {
    "resnet50": (
        "resnet",  # checker
        "resnet50-v1.5",  # prose
        "mobilenet",  # checker, model_mapping
    ),
    "ssd-small": (
        # checker v2.0, model_mapping; LoadGen's model is the first
        "ssd-mobilenet",
        "ssd_mobilenet_v1_coco",
        "ssd_mobilenet_v1_fpn_640x640",
        "ssd_mobilenet_v1_quantized_coco",
        "ssd_mobilenet_v2_320x320",
        "ssd_mobilenet_v2_fpnlite_320x320",
        "ssd_mobilenet_v2_fpnlite_640x640",
        "ssd_resnet50_v1_fpn_640x640",
        "ssd_resnet101_v1_fpn_640x640",
        "ssd_resnet152_v1_fpn_640x640",
    ),
    "ssd-large": (
        # checker v2.0, model_mapping; LoadGen's model is the first
        "ssd-resnet34",
        "ssd_resnet50_v1_fpn_1024x1024",
        "ssd_resnet101_v1_fpn_1024x1024",
        "ssd_resnet152_v1_fpn_1024x1024",
        "rcnn-resnet50-lowproposals-coco",
        "rcnn-inception-resnet-v2-lowproposals-coco",
        "rcnn-inception-v2-coco",
        "rcnn-nas-lowproposals-coco",
        "rcnn-resnet101-lowproposals-coco",
    ),
    "rnnt": (),
    "bert": ("bert-large",),
    "dlrm": (),
    "3d-unet": ("unet3d",),
    "retinanet": ("retinanet-resnext50", "retinanet-800x800"),
    "dlrm-v2": ("dlrm-dcn-v2",),
    "gptj": ("gpt-j-6b",),
    "llama2-70b": ("llama-2-70b-chat", "llama-2-70b-chat-hf"),
    "stable-diffusion-xl": ("sdxl", "stable-diffusion-xl-base-1.0"),
    "mixtral-8x7b": ("mixtral-8x7b-instruct-v0.1",),
    "llama3.1-405b": ("llama3-405b", "llama-3.1-405b-instruct"),
    "rgat": (),
    "llama3.1-8b": ("llama3-8b", "llama-3.1-8b-instruct"),
    "llama3.1-8b-edge": ("llama3-8b-edge",),
    "pointpainting": ("3d-object-detection",),
    "deepseek-r1": ("deepseek",),
    "whisper": ("whisper-large-v3",),
    "gpt-oss-120b": ("gpt-oss",),
    "wan-2.2-t2v-a14b": ("wan-2.2", "wan-2.2-t2v"),
    "qwen3-vl-235b-a22b": ("qwen3-vl", "qwen3-vl-235b-a22b-instruct", "q3vl"),
    "dlrm-v3": (),
    "yolo": ("yolo-v11", "yolo11"),
    "qwen3.6-27b": ("qwen3.6", "edge-agentic"),
    "e2e-rag-qna": ("e2e-rag-q&a",),
    "e2e-rag-db": (),
}
"""Canonical benchmark, of any round -> its other names."""

SUFFIX = re.compile(r"[-_ ](99[._-]9|99|95)$")
INTERACTIVE = re.compile(r"[-_ ]interactive(?=[-_ ]|$)")
# The checker's own guesses, in its order (configuration.py, get_mlperf_model).
GUESSES = (
    (re.compile("mobilenet|efficientnet|resnet50"), ("resnet50", "")),
    (re.compile(r"bert99\.?9"), ("bert", "99.9")),
    (re.compile("bert99"), ("bert", "99")),
    (re.compile("llama31405b"), ("llama3.1-405b", "")),
)


def canonical(name: str, round_name: str = "") -> tuple[str, str] | None:
    """Return benchmark and target of any usual spelling; None for an unknown name.

    ``bert`` and ``llama2-70b``, as LoadGen calls them, do not tell the target: it is
    empty for them, as for a benchmark that has only one, and the caller has to
    look elsewhere (the folder) or ask. ``llama2-70b-interactive-99`` is
    ``llama2-70b``: see ``interactive``. ``round_name`` matters to ``ssd-resnet34``
    alone, which checkers since v2.1 take for an entry to ``retinanet``.
    """
    text = INTERACTIVE.sub("", name.strip().lower().rpartition("/")[2])
    if round_name not in ("", "v2.0") and squash(text) == "ssdresnet34":
        return "retinanet", ""
    if found := table().get(squash(text)):
        return found, ""
    suffix = SUFFIX.search(text)
    if suffix:
        found = table().get(squash(text[: suffix.start()]), "")
        target = re.sub("[_-]", ".", suffix[1])
        if target in TARGETS.get(found, ()):
            return found, target
        if found:
            return None
    for pattern, answer in GUESSES:
        if pattern.search(squash(text)):
            return answer
    return None


def interactive(name: str) -> bool:
    """True when a name speaks of the Interactive scenario, as v5.0's benchmarks do."""
    return bool(INTERACTIVE.search(name.strip().lower()))


def squash(text: str) -> str:
    """Return letters and digits alone, in lower case."""
    return re.sub("[^a-z0-9]", "", text.lower())


@cache
def table() -> dict[str, str]:
    """Return squashed spelling -> canonical benchmark."""
    return {
        squash(spelling): name
        for name, others in ALIASES.items()
        for spelling in (name, *others)
    }
