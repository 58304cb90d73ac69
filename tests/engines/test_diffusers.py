"""The engine diffusers, on networks of SDXL's architecture at a tiny size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.benchmarks.diffusion import euler
from pytest_mlperf.benchmarks.diffusion import sdxl
from pytest_mlperf.benchmarks.diffusion.workload import DiffusionWorkload
from pytest_mlperf.benchmarks.stable_diffusion_xl import STABLE_DIFFUSION_XL
from pytest_mlperf.engines.diffusers import DIFFUSERS
from pytest_mlperf.engines.diffusers import DiffusersEngine
from pytest_mlperf.engines.torch.diffusion.networks import make_networks

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")

# The library's own, and its packages'.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning"
)
SIDE, STEPS = 64, 3
SMALL: Mapping[str, Mapping[str, Any]] = {
    "text_encoder": {"hidden_size": 16, "intermediate_size": 32, "projection_dim": 16},
    "text_encoder_2": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "projection_dim": 16,
    },
    "unet": {
        "block_out_channels": (16, 16, 32),
        "attention_head_dim": (1, 2, 2),
        "transformer_layers_per_block": (1, 1, 1),
        "layers_per_block": 1,
        "cross_attention_dim": 32,
        "norm_num_groups": 8,
        "sample_size": SIDE // 8,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 64,
    },
    "vae": {
        "block_out_channels": (8, 8, 8, 8),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "sample_size": SIDE,
    },
}
CONFIGURATIONS = {
    name: {**sdxl.CONFIGURATIONS[name], **small}
    | ({"num_hidden_layers": 2, "num_attention_heads": 2} if "text" in name else {})
    for name, small in SMALL.items()
}


@pytest.fixture(scope="module")
def workload() -> DiffusionWorkload:
    return sdxl.open_generated(6, CONFIGURATIONS, SIDE, STEPS)


@pytest.fixture(scope="module")
def engine(workload: DiffusionWorkload, tmp_path_factory: Any) -> DiffusersEngine:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    request = BuildRequest(workload, "fp32", tmp_path_factory.mktemp("cache"))
    return DIFFUSERS.open(DIFFUSERS.build(request), 1)


def test_the_true_architecture_has_as_many_parameters_as_the_official_one() -> None:
    """SDXL's published sizes: a UNet of 2.57 billion, encoders of 123 and 695 million,
    an autoencoder of 84 million.
    """
    model = sdxl.open_generated(1).diffusion
    assert model is not None
    with torch.device("meta"):
        networks = make_networks(model, torch.float16)
    sizes = {
        name: sum(one.numel() for one in network.parameters())
        for name, network in networks.items()
    }

    assert sizes == {
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
        "unet": 2_567_463_684,
        "vae": 83_653_863,
    }


def test_a_batch_changes_no_picture(
    workload: DiffusionWorkload, engine: DiffusersEngine
) -> None:
    """Nor does the number of pictures that the decoder makes at once."""
    provider: EngineProvider = DIFFUSERS
    together = engine.infer(workload.dataset.gather(range(6)), 6)
    alone = [engine.infer(workload.dataset.gather([i]), 1)[0] for i in range(6)]
    rows = workload.respond(together, list(range(6))).rows

    assert provider.precisions[0] == "fp32"
    assert together[0].shape == (6, 3, SIDE, SIDE)
    assert np.allclose(together[0], np.concatenate(alone), atol=2e-5)
    assert rows.shape == (6, SIDE, SIDE, 3)
    assert rows.std() > 0
    assert not np.array_equal(rows[0], rows[1])


def test_a_pipeline_on_disk_gives_the_same_pictures(
    workload: DiffusionWorkload, engine: DiffusersEngine, tmp_path: Path
) -> None:
    """The way that the official checkpoint takes: diffusers' folder."""
    for name in SMALL:
        getattr(engine.pipeline, name).save_pretrained(tmp_path / name)
    (tmp_path / "model_index.json").write_text(
        '{"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt":'
        ' true, "text_encoder": ["transformers", "CLIPTextModel"], "text_encoder_2":'
        ' ["transformers", "CLIPTextModelWithProjection"], "unet": ["diffusers",'
        ' "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"], "scheduler":'
        ' [null, null], "tokenizer": [null, null], "tokenizer_2": [null, null]}'
    )
    assert workload.diffusion is not None
    model = replace(workload.diffusion, folder=tmp_path, configurations={})
    request = BuildRequest(replace(workload, diffusion=model), "fp32", tmp_path)
    opened = DIFFUSERS.open(DIFFUSERS.build(request), 1)
    batch = workload.dataset.gather([3, 1])

    assert np.array_equal(opened.infer(batch, 2)[0], engine.infer(batch, 2)[0])


def test_the_embedded_sampler_is_the_library_s() -> None:
    """Timesteps and sigmas of the official configuration, 20 steps."""
    scheduler = diffusers.EulerDiscreteScheduler(**sdxl.SCHEDULER)
    scheduler.set_timesteps(sdxl.STEPS)
    schedule = euler.make_schedule(sdxl.STEPS)

    assert schedule.timesteps.tolist() == scheduler.timesteps.tolist()
    assert np.allclose(schedule.sigmas, scheduler.sigmas.numpy(), rtol=2e-5)
    assert schedule.start == pytest.approx(float(scheduler.init_noise_sigma), rel=2e-5)


def test_what_it_cannot_do_is_refused(
    workload: DiffusionWorkload, tmp_path: Path
) -> None:
    """A model of ONNX files, fp16 on a CPU, an absent folder, options."""
    embedded = STABLE_DIFFUSION_XL.open_workload("embedded", None)
    with pytest.raises(BuildFailed, match="has no pipeline of diffusers"):
        DIFFUSERS.build(BuildRequest(embedded, "fp32", tmp_path))
    cpu = {"device": "cpu"}
    with pytest.raises(BuildFailed, match="on a CPU got fp16"):
        DIFFUSERS.build(BuildRequest(workload, "fp16", tmp_path, cpu))
    assert workload.diffusion is not None
    model = replace(workload.diffusion, folder=tmp_path / "absent")
    request = BuildRequest(replace(workload, diffusion=model), "fp32", tmp_path, cpu)
    with pytest.raises(BuildFailed, match="Copy the checkpoint's whole folder"):
        DIFFUSERS.open(DIFFUSERS.build(request), 1)
    with pytest.raises(ValueError, match="should get auto, cpu or cuda"):
        DIFFUSERS.check_options({"device": "tpu"})
    with pytest.raises(ValueError, match="decoded=0"):
        DIFFUSERS.check_options({"decoded": "0"})
