"""What ``--mlperf-engine-options`` may say of the kernels of a build below fp32."""

from __future__ import annotations

from collections.abc import Mapping

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


def find_kernel(
    given: Mapping[str, str], name: str, missing: str | None
) -> tuple[bool, str]:
    """Return whether CUDA C++ runs where an option chooses, and the fact that says so.

    ``missing``: what keeps it from running, or None.
    """
    reason = missing
    if choose_kernel(given, name) == "triton":
        reason = f"as {name}=triton asks"
    return reason is None, "CUDA C++" if reason is None else f"Triton, {reason}"
