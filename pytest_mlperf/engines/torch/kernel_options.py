"""What ``--mlperf-engine-options`` may say of the kernels of a build below fp32."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import TypeVar

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.config.named_option import NamedOption
from pytest_mlperf.config.named_option import list_help
from pytest_mlperf.config.named_option import list_named
from pytest_mlperf.config.named_option import named_option
from pytest_mlperf.config.named_option import read_named
from pytest_mlperf.engines.torch import cuda_source

R = TypeVar("R")


def either(*legal: str) -> Callable[[str], str]:
    """Return the parser of an option that has some words."""

    def parse(text: str) -> str:
        if text not in legal:
            raise ValueError(" or ".join(legal))
        return text

    return parse


@dataclass(frozen=True, slots=True)
class KernelOptions:
    """Which kernels are asked for; nobody asked: the faster ones."""

    attention: str = named_option(
        either("fp16", "fp8"),
        "fp8 or fp16: what an fp8 encoder's attention reads",
        default="fp16",
    )
    attention_kernel: str = named_option(
        either("cuda", "triton"),
        "cuda or triton: the kernel of an encoder's attention",
        default="cuda",
    )
    norm_kernel: str = named_option(
        either("cuda", "triton"),
        "cuda or triton: those of an fp8 encoder's LayerNorms",
        default="cuda",
    )
    stem: str = named_option(
        either("cuda", "triton"),
        "cuda or triton: the kernels of an fp8 net's first convolution",
        default="cuda",
    )
    blocks: str = named_option(
        either("cuda", "triton"),
        "cuda or triton: those of an fp8 net's narrow residual blocks",
        default="cuda",
    )


OPTIONS = list_help(KernelOptions)


def read_kernels(given: Mapping[str, str]) -> KernelOptions:
    """Return the kernels' part of an engine's options; others are passed over.

    Raises ``ValueError`` for a word that an option does not have.
    """
    try:
        return KernelOptions(**read_named(KernelOptions, given))
    except ValueError as error:
        raise ValueError(f"{error}{_suggest_option(given)}") from None


def _suggest_option(given: Mapping[str, str]) -> str:
    """Return the option that the first wrong value belongs to, of those on the same
    subject.
    """
    named = list_named(KernelOptions)
    wrong = next(n for n in named if n in given and not _takes(named[n], given[n]))
    subject = wrong.partition("_")[0]
    for other, one in named.items():
        if other.partition("_")[0] == subject and _takes(one, given[wrong]):
            return f"; did you mean {other}={given[wrong]}?"
    return ""


def _takes(option: NamedOption, text: str) -> bool:
    try:
        option.parse(text)
    except ValueError:
        return False
    return True


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
    if getattr(read_kernels(given), name) == "triton":
        reason = f"as {name}=triton asks"
    return KernelChoice(name, reason, given.get(name) == "cuda")
