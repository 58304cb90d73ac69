"""Stable Diffusion XL and COCO's captions in the scratch folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.diffusion_model import DiffusionModel
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.sources import Source
from pytest_mlperf.api.sources import files_digest
from pytest_mlperf.api.sources import require_files
from pytest_mlperf.api.workload import ArrayDataset
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.diffusion import sdxl
from pytest_mlperf.benchmarks.diffusion.captions import read_captions
from pytest_mlperf.benchmarks.diffusion.scores import Floats
from pytest_mlperf.benchmarks.diffusion.scores import Statistics
from pytest_mlperf.benchmarks.diffusion.scores import score_pictures
from pytest_mlperf.benchmarks.diffusion.workload import DiffusionWorkload

CAPTIONS = 5000
NEGATIVE = "normal quality, low quality, worst quality, low res, blurry, nsfw, nude"
"""``negative_prompt`` of text_to_image/backend_pytorch.py."""
EXTRA = "pip install 'pytest-mlperf[diffusion]'"
INFERENCE = "https://raw.githubusercontent.com/mlcommons/inference/master"
FOLDERS = (
    "models/SDXL/official_pytorch/fp16/stable_diffusion_fp16/checkpoint_pipe",
    "models/stable-diffusion-xl/checkpoint_pipe",
    "model/checkpoint_pipe",
)
DATA = ("data/coco/SDXL", "coco2014")


def declare_part(name: str, md5: str) -> Source:
    """Return the declaration of one network's weights."""
    return Source(
        paths=tuple(f"{folder}/{name}" for folder in FOLDERS),
        origin="stable-diffusion-xl-1-0-fp16-checkpoint (or -fp32-) of MLCommons' R2"
        " storage (text_to_image/README.md), the whole folder checkpoint_pipe",
        terms="CreativeML Open RAIL++-M",
        md5=md5,
    )


MODEL = tuple(
    declare_part(name, md5)
    for name, md5 in (
        (
            "unet/diffusion_pytorch_model.safetensors",
            "edfa956683fb6121f717d095bf647f53",
        ),
        ("vae/diffusion_pytorch_model.safetensors", "25fe90074af9a0fe36d4a713ad5a3a29"),
        ("text_encoder/model.safetensors", "81b87e641699a4cd5985f47e99e71eeb"),
        ("text_encoder_2/model.safetensors", "5e540a9d92f6f88d3736189fd28fa6cd"),
    )
)
"""The md5 sums are of the fp16 checkpoint, as published with NVIDIA's results."""
CAPTIONS_FILE = Source(
    paths=(
        f"{DATA[0]}/captions_5k_final.tsv",
        f"{DATA[1]}/captions/captions.tsv",
        f"{DATA[1]}/captions/captions_source.tsv",
    ),
    origin="text_to_image/coco2014/captions of MLCommons' inference repository",
    samples=CAPTIONS,
    terms="COCO's annotations, CC BY 4.0",
    md5="24ba91c1e0fc04e70895385b4a57dca1",
    urls=(f"{INFERENCE}/text_to_image/coco2014/captions/captions_source.tsv",),
)
LATENTS = Source(
    paths=(f"{DATA[0]}/latents.npy", f"{DATA[1]}/latents/latents.npy"),
    origin="text_to_image/tools of MLCommons' inference repository",
    size=262_272,
    urls=(f"{INFERENCE}/text_to_image/tools/latents.npy",),
)
STATISTICS = Source(
    paths=(f"{DATA[0]}/val2014.npz", f"{DATA[1]}/val2014.npz"),
    origin="text_to_image/tools of MLCommons' inference repository",
    urls=(f"{INFERENCE}/text_to_image/tools/val2014.npz",),
)
CLIP = Source(
    paths=("models/SDXL/scores/ViT-B-32.pt", "models/clip/ViT-B-32.pt"),
    origin="OpenAI's CLIP ViT-B/32, which open_clip downloads for the tag openai",
    terms="MIT",
    sha256="40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
)
INCEPTION_NAME = "pt_inception-2015-12-05-6726825d.pth"
INCEPTION = Source(
    paths=(
        f"models/SDXL/scores/checkpoints/{INCEPTION_NAME}",
        f"models/fid/checkpoints/{INCEPTION_NAME}",
    ),
    origin="the release fid_weights of mseitzer/pytorch-fid",
    terms="Apache-2.0",
    urls=(
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        + INCEPTION_NAME,
    ),
)
SOURCES = (*MODEL, CAPTIONS_FILE, LATENTS, STATISTICS, CLIP, INCEPTION)


def open_official(scratch: Path | None, count: int = CAPTIONS) -> DiffusionWorkload:
    """Open Stable Diffusion XL and COCO's captions.

    The digest covers the weights and the data by content. Raises
    ``RequirementMissing`` for absent files and packages, ``ValueError`` for wrong ones.
    """
    found = require_files("stable-diffusion-xl", SOURCES, scratch, files.USE_EMBEDDED)
    unet, *others, captions_file, latents_file, statistics, clip, inception = found
    files.require_package("transformers", "captions cannot be tokenized", EXTRA)
    captions = read_captions(captions_file, count)
    latents = read_latents(latents_file)
    folder = unet.parents[1]
    tokens = {
        "tokens": tokenize(folder / "tokenizer", captions),
        "tokens_2": tokenize(folder / "tokenizer_2", captions),
    }
    negative = {
        "tokens": tokenize(folder / "tokenizer", [NEGATIVE]),
        "tokens_2": tokenize(folder / "tokenizer_2", [NEGATIVE]),
    }
    real = Statistics.read(statistics)
    return DiffusionWorkload(
        kind="official",
        title=f"Stable Diffusion XL, COCO 2014 ({len(captions):,} captions);"
        " --mlperf-engine diffusers",
        digest=files_digest(
            [unet, *others, captions_file, latents_file],
            repr((sdxl.STEPS, sdxl.GUIDANCE, NEGATIVE)),
        ),
        dataset=ArrayDataset(tokens, count),
        reference={},
        captions=captions,
        side=latents.shape[-1] * sdxl.SCALE,
        score_all=partial(
            score_pictures, judge=partial(judge_pictures, clip, inception), real=real
        ),
        diffusion=DiffusionModel(
            folder, {}, sdxl.SCHEDULER, latents, negative, sdxl.STEPS, sdxl.GUIDANCE
        ),
    )


def read_latents(path: Path) -> Array:
    """Return the noise that every picture starts from: float32 [1, 4, 128, 128]."""
    try:
        latents = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"{path} is no npy file: {error}. Copy it again from {LATENTS.origin}."
        ) from error
    if latents.shape != (1, 4, 128, 128) or not np.isfinite(latents).all():
        raise ValueError(
            f"{path} has the shape {list(latents.shape)}, but should have"
            " [1, 4, 128, 128] and finite numbers. Copy it again from"
            f" {LATENTS.origin}."
        )
    return np.asarray(latents, np.float32)


def tokenize(folder: Path, captions: Sequence[str]) -> NDArray[np.int64]:
    """Return int64 [captions, 77], padded and cut as the reference does.

    Raises ``ValueError`` for a folder without a CLIP tokenizer.
    """
    from transformers import CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"{folder} has no CLIP tokenizer: {error}. Copy the checkpoint's whole"
            " folder."
        ) from error
    return np.asarray(
        tokenizer(list(captions), padding="max_length", max_length=77, truncation=True)[
            "input_ids"
        ],
        np.int64,
    )


def judge_pictures(
    clip: Path, inception: Path, pictures: Array, captions: Sequence[str]
) -> tuple[Floats, Floats]:
    """Return CLIP's cosines and Inception's features, as ``scores.Judge`` says."""
    import torch
    from PIL import Image

    encoder, prepare, read, network, device = open_judges(clip, inception)
    shown = torch.stack([prepare(Image.fromarray(one)) for one in pictures])
    with torch.inference_mode():
        seen = encoder.encode_image(shown.to(device)).float()
        said = encoder.encode_text(read(list(captions)).to(device)).float()
        cosines = torch.cosine_similarity(seen, said)
        pixels = torch.tensor(pictures).permute(0, 3, 1, 2).to(device).float() / 255
        features = network(pixels)[0].flatten(1)
    return cosines.double().cpu().numpy(), features.double().cpu().numpy()


@cache
def open_judges(clip: Path, inception: Path) -> tuple[Any, Any, Any, Any, str]:
    """Return CLIP, its preprocessing and tokenizer, FID's Inception, and the device.

    Raises ``RequirementMissing`` without their packages.
    """
    for package, module in (("open_clip_torch", "open_clip"), ("pytorch-fid", "")):
        files.require_package(
            package,
            "pictures cannot be scored",
            EXTRA,
            module or package.replace("-", "_"),
        )
    import torch
    from open_clip import image_transform
    from open_clip import tokenize as read
    from open_clip.openai import load_openai_model
    from pytorch_fid.inception import InceptionV3

    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = load_openai_model(str(clip), precision="fp32", device=device)
    prepare = image_transform(encoder.visual.image_size, is_train=False)
    # It takes its weights from the hub's folder, and downloads what is not there.
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(inception.parents[1]))
    try:
        network = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[2048]])
    finally:
        torch.hub.set_dir(before)
    return encoder.eval(), prepare, read, network.to(device).eval(), device
