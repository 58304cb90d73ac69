"""The operators of an fp8 net as PyTorch's own calls: what their kernels should say."""

from __future__ import annotations

from typing import Any

import torch

F = torch.nn.functional


def _to_fp8(value: Any) -> Any:
    return value.clamp(-448, 448).float().to(torch.float8_e4m3fn)


def _convolve(x: Any, weight: Any, stride: int) -> Any:
    """Convolve in float64; ``weight`` is [out, height, width, in]."""
    turned = weight.double().permute(0, 3, 1, 2)
    return F.conv2d(x.double(), turned, None, stride, weight.shape[1] // 2)


def convolve(at: Any, x: Any, weight: Any, bias: Any, shortcut: Any = None) -> Any:
    """``Fp8Conv``: [batch, channels, height, width] in and out."""
    result = _convolve(x, weight, at["stride"]) * at["dequantize"]
    result += bias.double()[:, None, None]
    if shortcut is not None:
        result += shortcut.double() * at["shortcut_dequantize"]
    if at["relu"]:
        result = result.relu()
    return _to_fp8(result * at["quantize"])


def end_block(
    at: Any, x: Any, weight: Any, bias: Any, shortcut: Any, projection: Any
) -> Any:
    """``ResidualTail``."""
    result = _convolve(x, weight, 1) * at["dequantize"] + bias.double()[:, None, None]
    added = shortcut.double()
    if projection is not None:
        added = _convolve(shortcut, projection, at["stride"])
    result += added * at["shortcut_dequantize"]
    return _to_fp8(result.relu() * at["quantize"])


OPERATORS = {"Fp8Conv": convolve, "ResidualTail": end_block}
