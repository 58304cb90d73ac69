"""The diffusers engine: Stable Diffusion XL with PyTorch, on CUDA devices and CPUs.

Its parts run one after another, each with a batch that is its own: both text encoders
and the UNet with the whole batch, the decoder with as many pictures as its activations
leave memory for.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from functools import cache
from typing import Any

from pytest_mlperf.api.diffusion_model import DiffusionModel
from pytest_mlperf.api.diffusion_model import HasDiffusionModel
from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.timeline import Timeline
from pytest_mlperf.engines.torch.diffusion.device import DevicePipeline
from pytest_mlperf.engines.torch.diffusion.device import open_on_device
from pytest_mlperf.engines.torch.diffusion.networks import load_pipeline

PACKAGES = ("torch", "diffusers", "transformers")
EXTRA = "pip install 'pytest-mlperf[diffusion]'"
DECODED = 1
"""Pictures that the decoder makes at once: one of 1024 x 1024 fills a device."""


class DiffusersEngine:
    """A pipeline on its device."""

    answers = False

    def __init__(
        self,
        pipeline: Any,
        model: DiffusionModel,
        decoded: int = DECODED,
        on_device: DevicePipeline | None = None,
    ) -> None:
        self.pipeline, self.model, self.decoded = pipeline, model, decoded
        self._on_device = on_device
        self.timeline = on_device.events.timeline if on_device else Timeline()

    @property
    def facts(self) -> Mapping[str, str]:
        """Of a CUDA device: times by network, graphs, agreement with fp32."""
        return self._on_device.facts if self._on_device else {}

    def infer(self, batch: Batch, size: int) -> Sequence[Array]:
        """Return pictures float32 [size, 3, side, side] of 0 to 1."""
        import torch

        device = self._on_device
        with torch.inference_mode():
            if device is None:
                shown: Array = self.draw(batch, size, lambda _: None).numpy()
                return [shown]
            with torch.cuda.stream(device.stream):
                device.events.start()
                device.events.mark(1)
                pictures = self.draw(batch, size, device.mark)
                device.events.mark(2)
                shown = pictures.cpu().numpy()
                device.events.mark(3)
            device.finish(size)
        return [shown]

    def draw(self, batch: Batch, size: int, mark: Callable[[str], None]) -> Any:
        """Return pictures on the device; ``mark`` is told when a network is done."""
        import torch

        pipeline, model = self.pipeline, self.model
        device, dtype = pipeline.unet.device, pipeline.unet.dtype
        toward, pooled = self.encode(batch)
        # Once a batch, not once for all: the reference encodes it with each text.
        away, away_pooled = self.encode(model.negative)
        mark("text encoders")
        noise = torch.tensor(model.latents, device=device, dtype=dtype)
        latents = pipeline(
            prompt_embeds=toward,
            pooled_prompt_embeds=pooled,
            negative_prompt_embeds=away.expand(size, -1, -1),
            negative_pooled_prompt_embeds=away_pooled.expand(size, -1),
            latents=noise.expand(size, -1, -1, -1),
            num_inference_steps=model.steps,
            guidance_scale=model.guidance,
            output_type="latent",
        ).images
        mark("UNet")
        pictures = [self.decode(part) for part in latents.split(self.decoded)]
        mark("decoder")
        return torch.cat(pictures)

    def encode(self, batch: Mapping[str, Array]) -> tuple[Any, Any]:
        """Return what the UNet is told of a text: both encoders' last but one layers
        side by side, and the second one's pooled output.
        """
        import torch

        pipeline = self.pipeline
        found = [
            encoder(
                torch.from_numpy(batch[name]).to(encoder.device),
                output_hidden_states=True,
            )
            for encoder, name in (
                (pipeline.text_encoder, "tokens"),
                (pipeline.text_encoder_2, "tokens_2"),
            )
        ]
        states = torch.cat([one.hidden_states[-2] for one in found], dim=-1)
        return states, found[1][0]

    def decode(self, latents: Any) -> Any:
        """Return pictures; in fp32 where the decoder overflows in fp16."""
        decoder = self.pipeline.vae
        scaled = latents.to(decoder.dtype) / decoder.config.scaling_factor
        pictures = decoder.decode(scaled, return_dict=False)[0]
        return (pictures.float() / 2 + 0.5).clamp(0, 1)

    def close(self) -> None:
        if self._on_device is not None:
            self._on_device.close()
        self.pipeline = None


@dataclass(frozen=True, slots=True)
class DiffusersProvider:
    """Reads a pipeline's folder, or makes up its weights; there is nothing to build."""

    precisions: tuple[str, ...] = ("fp32", "fp16", "bf16")
    answers: bool = False
    checks_in_own_process: bool = True
    options: Mapping[str, str] = field(
        default_factory=lambda: {
            "device": "auto, cpu or cuda",
            "decoded": "pictures that the decoder makes at once",
        }
    )

    def check_options(self, given: Mapping[str, str]) -> None:
        _read_decoded(given)
        if given.get("device", "auto") not in ("auto", "cpu", "cuda"):
            raise ValueError(
                f"the engine diffusers got device={given['device']}, but should get"
                " auto, cpu or cuda [--mlperf-engine-options]"
            )

    @property
    def precision_for(self) -> Mapping[str, str]:
        """Held to the same limits: the official results are of fp16 and below."""
        return {"fp32": "fp16"} if _has_cuda() else {}

    @property
    def batches(self) -> tuple[int, ...]:
        """The UNet is computing-bound from a few pictures on; a CPU gains nothing."""
        return (1, 2, 4, 8, 16) if _has_cuda() else (1,)

    def unavailable(self) -> str | None:
        missing = [name for name in PACKAGES if not importlib.util.find_spec(name)]
        if not missing:
            return None
        return f"the engine diffusers needs {' and '.join(missing)}: {EXTRA}"

    def build(self, request: BuildRequest) -> Build:
        """Raises ``BuildFailed`` for a workload without such a model."""
        import diffusers
        import torch

        model = find_diffusion_model(request)
        device = _find_device(request.options.get("device", "auto"))
        if device == "cpu" and request.precision == "fp16":
            raise BuildFailed(
                "diffusers on a CPU got fp16, but should get fp32 or bf16: PyTorch has"
                " no fp16 kernels there that are worth measuring; choose one with"
                " --mlperf-precision"
            )
        parts = {
            "engine": "diffusers",
            "version": f"{diffusers.__version__} {torch.__version__}",
            "device": device,
            "precision": request.precision,
            "decoded": _read_decoded(request.options),
            "workload": request.workload.digest,
        }
        path = None if model.folder is None else model.folder / "model_index.json"
        facts = {"device": device, "diffusers": diffusers.__version__}
        facts["torch"] = str(torch.__version__)
        return Build(
            content_hash(parts),
            path,
            request,
            "nothing to build",
            facts,
            device,
            uses_gpu=device == "cuda",
            device="" if device == "cuda" else "CPU",
        )

    def open(self, build: Build, threads: int) -> DiffusersEngine:
        import torch

        request = build.request
        if build.details == "cpu":
            torch.set_num_threads(threads)
        dtypes = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
        model, dtype = find_diffusion_model(request), dtypes[request.precision]
        try:
            pipeline = load_pipeline(model, dtype, str(build.details))
        except (OSError, ValueError, RuntimeError) as error:
            raise BuildFailed(
                f"{request.workload.title} cannot be opened on {build.details} in"
                f" {request.precision}: {type(error).__name__}: {error}. Copy the"
                " checkpoint's whole folder again, or free the device's memory."
            ) from error
        decoded, on_device = _read_decoded(request.options), None
        if build.details == "cuda":
            precision = request.precision
            on_device = open_on_device(pipeline, model, precision, decoded)
        return DiffusersEngine(pipeline, model, decoded, on_device)

    def layouts(self, cpus: int) -> tuple[Streams, ...]:
        # A stream holds all weights, 7 GB in fp16, and one fills the device.
        return (Streams(1, cpus),)


def find_diffusion_model(request: BuildRequest) -> DiffusionModel:
    """Return the workload's model; raises ``BuildFailed`` where it has none."""
    workload = request.workload
    model = workload.diffusion if isinstance(workload, HasDiffusionModel) else None
    if model is None:
        raise BuildFailed(
            f"{workload.title} has no pipeline of diffusers, but the engine diffusers"
            " runs nothing else; choose another --mlperf-engine"
        )
    return model


@cache
def _has_cuda() -> bool:
    if not importlib.util.find_spec("torch"):
        return False
    import torch

    return bool(torch.cuda.is_available())


def _find_device(name: str) -> str:
    if name == "cuda" and not _has_cuda():
        raise RequirementMissing(
            "the engine diffusers finds no CUDA device: check nvidia-smi, or drop"
            " device=cuda from --mlperf-engine-options to measure the CPU"
        )
    if name == "auto":
        return "cuda" if _has_cuda() else "cpu"
    return name


def _read_decoded(given: Mapping[str, str]) -> int:
    text = given.get("decoded", str(DECODED))
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(
            f"the engine diffusers got decoded={text}, but should get a number of"
            " pictures from 1 on [--mlperf-engine-options]"
        )
    return int(text)


DIFFUSERS = DiffusersProvider()
