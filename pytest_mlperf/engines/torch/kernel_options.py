"""What ``--mlperf-engine-options`` may say of the kernels of a build below fp32."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import TypeVar

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.engines.torch import cuda_source

R = TypeVar("R")
KERNELS = {
    "attention": ("fp16", "fp8"),
    "attention_kernel": ("cuda", "triton"),
    "norm_kernel": ("cuda", "triton"),
    "stem": ("cuda", "triton"),
    "blocks": ("cuda", "triton"),
}
"""Option -> what to choose from, the default first."""
OPTIONS = {
    "attention": "fp8 or fp16: what an fp8 encoder's attention reads",
    "attention_kernel": "cuda or triton: the kernel of an encoder's attention",
    "norm_kernel": "cuda or triton: those of an fp8 encoder's LayerNorms",
    "stem": "cuda or triton: the kernels of an fp8 net's first convolution",
    "blocks": "cuda or triton: those of an fp8 net's narrow residual blocks",
}


def check_options(given: Mapping[str, str]) -> None:
    """Raise ``ValueError`` for a word that an option does not have."""
    for name, legal in KERNELS.items():
        value = choose_kernel(given, name)
        if value not in legal:
            raise ValueError(
                f"{name} is {value!r}, but should be {' or '.join(legal)}"
                f"{_suggest_option(name, value)}"
            )


def _suggest_option(name: str, value: str) -> str:
    """Return the option that a value belongs to, of those on the same subject."""
    subject = name.partition("_")[0]
    for other, legal in KERNELS.items():
        if other.partition("_")[0] == subject and value in legal:
            return f"; did you mean {other}={value}?"
    return ""


def choose_kernel(given: Mapping[str, str], name: str) -> str:
    """Return what was asked for, or the default."""
    return given.get(name, KERNELS[name][0])


@dataclass(slots=True)
class KernelChoice:
    """Whether CUDA C++ runs a part of one build, or Triton's kernels do.

    Its kernels are compiled for the first samples that they get. What NVRTC or the
    driver refuses then is Triton's from there on, and the build's facts say why.
    """

    option: str
    reason: str | None = None
    """Why Triton's run; None: CUDA C++ does."""
    is_asked: bool = False
    """CUDA C++ was asked for in so many words: nothing runs in its place."""
    _facts: dict[str, str] = field(default_factory=dict)
    _fact: str = ""

    @property
    def is_cuda(self) -> bool:
        return self.reason is None

    def describe(self) -> str:
        """Return which kernels run, for a fact."""
        return "CUDA C++" if self.is_cuda else f"Triton, {self.reason}"

    def note(self, facts: dict[str, str], fact: str) -> None:
        """Keep saying in a build's facts which kernels run."""
        self._facts, self._fact = facts, fact
        facts[fact] = self.describe()

    def run(self, by_cuda: Callable[[], R], by_triton: Callable[[], R]) -> R:
        """Return what either kernels make.

        Raises ``BuildFailed`` where those that were asked for cannot be compiled.
        """
        if self.is_cuda:
            try:
                return by_cuda()
            except cuda_source.CudaSourceError as error:
                self._refuse(error)
        return by_triton()

    def _refuse(self, error: cuda_source.CudaSourceError) -> None:
        why = cuda_source.first_line(error)
        if self.is_asked:
            raise BuildFailed(
                f"{self.option}=cuda asks for kernels of CUDA C++, but {why}; leave it "
                "out of --mlperf-engine-options, and Triton's kernels run"
            ) from error
        self.reason = why
        if self._fact:
            self.note(self._facts, self._fact)


def find_kernel(
    given: Mapping[str, str], name: str, missing: str | None
) -> KernelChoice:
    """Return which kernels run where an option chooses.

    ``missing``: what keeps CUDA C++ from running, or None.
    """
    reason = missing
    if choose_kernel(given, name) == "triton":
        reason = f"as {name}=triton asks"
    return KernelChoice(name, reason, given.get(name) == "cuda")
