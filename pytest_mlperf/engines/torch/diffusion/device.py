"""A pipeline on a CUDA device: channels-last, the UNet a graph, timed and proven."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from pytest_mlperf.api.diffusion_model import DiffusionModel
from pytest_mlperf.engines.torch import group_norm
from pytest_mlperf.engines.torch import verify
from pytest_mlperf.engines.torch.recorded import RecordedFunction
from pytest_mlperf.engines.torch.timeline import BatchEvents

NETWORKS = ("text encoders", "UNet", "decoder")
"""In the order in which a batch goes through them."""
TIMESTEP = 501.0
"""Of the comparison with fp32: the middle of the way."""


class DevicePipeline:
    """What a pipeline has beside its networks on a CUDA device."""

    def __init__(self, pipeline: Any, products: str) -> None:
        import torch

        self.stream = torch.cuda.Stream()
        self.events = BatchEvents()
        self._ends = [torch.cuda.Event(enable_timing=True) for _ in NETWORKS]
        self._times: list[list[float]] = []
        dtype = str(pipeline.vae.dtype).removeprefix("torch.")
        self._facts = {"decoder": f"{dtype}, float32 is multiplied in {products}"}
        self.unet = record_unet(pipeline.unet)

    @property
    def facts(self) -> Mapping[str, str]:
        """Where the device's time went, whether graphs were recorded, agreement."""
        facts = {**self._facts, "cuda graphs": f"UNet: {self.unet.report}"}
        if self._times:
            middle = np.median(self._times, axis=0)
            facts["device ms p50 by network"] = ", ".join(
                f"{name} {ms:.1f}" for name, ms in zip(NETWORKS, middle, strict=True)
            )
        return facts

    def mark(self, network: str) -> None:
        """Record the end of a network's work on a batch."""
        self._ends[NETWORKS.index(network)].record()

    def finish(self, size: int) -> None:
        """Wait for a batch and note its times."""
        self.events.finish(size)
        steps = [self.events.events[1], *self._ends]
        pairs = zip(steps, self._ends, strict=False)
        self._times.append([begin.elapsed_time(end) for begin, end in pairs])

    def note_agreement(
        self, reference: Sequence[Any], found: Sequence[Any], precision: str
    ) -> None:
        """Compare both networks' outputs with fp32's.

        Raises ``BuildFailed`` for a network that is further off than rounding is.
        """
        errors = [
            verify.measure_error([theirs], [ours], None)[0]
            for theirs, ours in zip(reference, found, strict=True)
        ]
        for error in errors:
            verify.check_error(error, precision, len(reference[0]))
        self._facts["agreement with fp32"] = (
            f"relative error of one step of the UNet {errors[0]:.2g}, of a decoded"
            f" picture {errors[1]:.2g}"
        )

    def close(self) -> None:
        """Release graphs and buffers."""
        self.stream.synchronize()
        self.unet.close()


def open_on_device(
    pipeline: Any, model: DiffusionModel, precision: str, decoded: int
) -> DevicePipeline:
    """Make a pipeline fast on its device, and compare it with its weights in fp32.

    ``decoded``: pictures at once. Raises ``BuildFailed`` where they disagree.
    """
    import torch

    exact = precision == "fp32"
    # A decoder that overflows in fp16 stays in fp32, and multiplies in TF32: with the
    # digits of fp16, and the range of fp32.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    reference = [] if exact else run_once(pipeline, model, 1, as_fp32=True)
    torch.backends.cudnn.allow_tf32 = not exact
    torch.backends.cuda.matmul.allow_tf32 = not exact
    torch.backends.cudnn.benchmark = not exact
    group_norm.use_channels_last(pipeline.unet)
    group_norm.use_channels_last(pipeline.vae.decoder)
    opened = DevicePipeline(pipeline, "fp32" if exact else "TF32")
    if not exact:
        with torch.cuda.stream(opened.stream):
            found = run_once(pipeline, model, decoded, as_fp32=False)
        opened.note_agreement(reference, found, precision)
    return opened


def run_once(
    pipeline: Any, model: DiffusionModel, decoded: int, *, as_fp32: bool
) -> list[Any]:
    """Return one step of the UNet, and the last of so many decoded pictures, as float32
    arrays.

    Both texts are random numbers: how they were encoded is not compared.
    """
    import torch

    unet, decoder = pipeline.unet, pipeline.vae
    if as_fp32:
        unet, decoder = deepcopy(unet).float(), deepcopy(decoder).float()
    config, device = unet.config, unet.device
    random = np.random.default_rng(5)
    hidden = 6 * config.addition_time_embed_dim
    pooled = config.projection_class_embeddings_input_dim - hidden
    length = model.negative["tokens"].shape[1]

    def draw(*shape: int) -> Any:
        drawn = random.standard_normal(shape, np.float32)
        return torch.from_numpy(drawn).to(device, unet.dtype)

    side = model.latents.shape[-1] * 8
    sizes = torch.tensor([[side, side, 0, 0, side, side]] * 2, device=device)
    latents = torch.from_numpy(model.latents).to(device)
    with torch.inference_mode():
        step = unet(
            latents.to(unet.dtype).expand(2, -1, -1, -1),
            torch.tensor(TIMESTEP, device=device),
            encoder_hidden_states=draw(2, length, config.cross_attention_dim),
            added_cond_kwargs={
                "text_embeds": draw(2, pooled),
                "time_ids": sizes.to(unet.dtype),
            },
            return_dict=False,
        )[0]
        repeated = latents.to(decoder.dtype).expand(decoded, -1, -1, -1)
        picture = decoder.decode(repeated, return_dict=False)[0][-1:]
    return [one.float().cpu().numpy() for one in (step, picture)]


def record_unet(unet: Any) -> RecordedFunction:
    """Let a UNet be replayed as a CUDA graph, wherever the pipeline calls it."""
    forward = unet.forward

    def run(sample: Any, timestep: Any, texts: Any, pooled: Any, sizes: Any) -> Any:
        return forward(
            sample,
            timestep,
            encoder_hidden_states=texts,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes},
            return_dict=False,
        )[0]

    recorded = RecordedFunction(run)

    def replay(
        sample: Any,
        timestep: Any,
        encoder_hidden_states: Any,
        added_cond_kwargs: Mapping[str, Any],
        **_: Any,
    ) -> tuple[Any]:
        """Take what the pipeline of a text without further controls passes."""
        given = added_cond_kwargs["text_embeds"], added_cond_kwargs["time_ids"]
        return (recorded(sample, timestep, encoder_hidden_states, *given),)

    unet.forward = replay
    return recorded
