"""What ``--mlperf-engine-options`` may say of the kernels of a build in fp8."""

from __future__ import annotations

from collections.abc import Mapping

KERNELS = {
    "attention": ("fp16", "fp8"),
    "stem": ("cuda", "triton"),
    "blocks": ("cuda", "triton"),
}
"""Option -> what to choose from, the default first."""
OPTIONS = {
    "attention": "fp8 or fp16: what an fp8 encoder's attention reads",
    "stem": "cuda or triton: the kernels of an fp8 net's first convolution",
    "blocks": "cuda or triton: those of an fp8 net's narrow residual blocks",
}


def check_options(given: Mapping[str, str]) -> None:
    """Raise ``ValueError`` for a word that an option does not have."""
    for name, legal in KERNELS.items():
        if choose_kernel(given, name) not in legal:
            raise ValueError(
                f"{name} is {given[name]!r}, but should be {' or '.join(legal)}"
            )


def choose_kernel(given: Mapping[str, str], name: str) -> str:
    """Return what was asked for, or the default."""
    return given.get(name, KERNELS[name][0])
