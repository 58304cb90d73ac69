"""stable-diffusion-xl: pictures from captions, CLIP score and FID.

Official: Stable Diffusion XL 1.0 on 5,000 captions of COCO 2014, 20 steps. Embedded: a
small diffusion model on colored digits, with its own judge, that ships with the
project.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.api.sources import Source
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.diffusion import official
from pytest_mlperf.benchmarks.diffusion import sdxl
from pytest_mlperf.benchmarks.diffusion.embedded import open_embedded
from pytest_mlperf.benchmarks.diffusion.synthetic import open_synthetic
from pytest_mlperf.benchmarks.diffusion.workload import DiffusionWorkload
from pytest_mlperf.core.rounds.rule import Rule


@dataclass(frozen=True, slots=True)
class StableDiffusionXlBenchmark:
    """The benchmark as it registers itself."""

    name: str = "stable-diffusion-xl"
    aliases: tuple[str, ...] = ("sdxl",)
    metric: str = "CLIP_SCORE"
    takes: frozenset[str] = frozenset({"tensors"})
    rules: tuple[Rule, ...] = ()
    sources: tuple[Source, ...] = official.SOURCES
    rehearses: bool = True

    def precision(self, target: str) -> str:  # noqa: ARG002
        """Return fp32; the engine ``diffusers`` runs fp16 on CUDA in its place."""
        return "fp32"

    def open_workload(self, kind: str, scratch: Path | None) -> DiffusionWorkload:
        """Open ``official``, ``embedded``, ``generated`` or ``synthetic``.

        Raises ``RequirementMissing`` for an absent file or package, ``ValueError`` for
        a wrong one.
        """
        if kind == "embedded":
            return open_embedded()
        if kind == "official":
            return official.open_official(scratch)
        if kind == "generated":
            return sdxl.open_generated(official.CAPTIONS)
        if kind == "synthetic":
            return open_synthetic(official.CAPTIONS)
        kinds = "official", "embedded", "generated", "synthetic"
        raise files.unknown_kind(self.name, kind, *kinds)


STABLE_DIFFUSION_XL = StableDiffusionXlBenchmark()
