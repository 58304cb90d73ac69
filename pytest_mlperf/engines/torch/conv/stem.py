"""The two ends of a convolution net in fp8: the stem on pictures, and the mean.

A first convolution of 7x7 with stride 2 on int8 pictures is a product of depth 256
once every 2x2 pixels are one: pixels stay exact, weights become int8.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pytest_mlperf.engines.torch.conv.stem_pool import fits
from pytest_mlperf.engines.torch.conv.stem_pool import run_stem_pool
from pytest_mlperf.engines.torch.kernel_options import KernelChoice
from pytest_mlperf.engines.torch.onnx_graph import Node
from pytest_mlperf.engines.torch.onnx_graph import OnnxGraph

FP8_MAX = 448.0
BLOCK = 16
"""Bytes of 2x2 pixels: 12 of three colors, and padding for whole loads."""
COLORS, KERNEL, PAD = 3, 7, 3
MOST_PIXELS, MEAN_CHANNELS = 64, 64
"""What the mean's kernel has registers for: 7x7, of 64 channels at a time."""


def replace_ends(graph: OnnxGraph, pictures: Collection[str]) -> OnnxGraph:
    """Return an fp8 graph with ``Int8StemPool`` and ``Fp8Mean`` where its ends suit.

    ``pictures`` are those inputs that are int8, [batch, height, width, color].
    """
    users, makers = graph.users(), graph.makers()
    constants = dict(graph.constants)
    replaced: dict[int, list[Node]] = {}
    for node in graph.nodes:
        chain = _find_chain(node, makers, users)
        if node.kind == "Fp8MaxPool" and chain and chain[0].inputs[0] in pictures:
            conv = chain[-1]
            weight, bias = (constants[name] for name in conv.inputs[1:])
            if not _is_stem(conv, weight):
                continue
            # Scaling keeps the order of numbers, so the pool's scale is applied first.
            quantize = node.attributes["quantize"]
            low, scale = fold_weights(weight)
            unit = float(scale.max())
            name = conv.outputs[0]
            constants[f"{name}/int8"] = low
            constants[f"{name}/scale"] = scale / unit
            constants[f"{name}/bias"] = bias * quantize
            parts = (f"{name}/{part}" for part in ("int8", "scale", "bias"))
            inputs = (chain[0].inputs[0], *parts)
            at = {"unit": unit * quantize}
            both = Node("Int8StemPool", conv.name, inputs, node.outputs, at)
            replaced |= {id(removed): [] for removed in chain}
            replaced[id(node)] = [both]
        before = makers.get(node.inputs[0]) if node.inputs else None
        kinds = before and (before.kind, node.kind)
        if before is None or kinds != ("Dequantize", "GlobalAveragePool"):
            continue
        if len(users[before.outputs[0]]) == 1:
            mean = Node(
                "Fp8Mean", node.name, before.inputs, node.outputs, before.attributes
            )
            replaced |= {id(before): [], id(node): [mean]}
    nodes = [new for n in graph.nodes for new in replaced.get(id(n), [n])]
    return OnnxGraph(nodes, constants, graph.inputs, graph.outputs)


def _find_chain(
    node: Node, makers: dict[str, Node], users: dict[str, list[Node]]
) -> list[Node]:
    """Return Cast, Transpose and ConvRelu before a pooling, or nothing."""
    chain: list[Node] = []
    for kind in ("ConvRelu", "Transpose", "Cast"):
        maker = makers.get(node.inputs[0]) if node.inputs else None
        if maker is None or maker.kind != kind or len(users[maker.outputs[0]]) > 1:
            return []
        chain.insert(0, maker)
        node = maker
    return chain if list(chain[1].attributes.get("perm", ())) == [0, 3, 1, 2] else []


def _is_stem(conv: Node, weight: Any) -> bool:
    columns = weight.shape[0]
    return (
        list(weight.shape[1:]) == [COLORS, KERNEL, KERNEL]
        and columns in (16, 32, 64, 128)
        and list(conv.attributes.get("strides", ())) == [2, 2]
        and list(conv.attributes.get("pads", ())) == [PAD] * 4
        and set(conv.attributes.get("dilations", [1])) == {1}
    )


def fold_weights(weight: Any) -> tuple[Any, Any]:
    """Return int8 weights [columns, 4, 64] over blocks of 2x2 pixels, and their scales.

    One row and column of zeros in front make 7x7 an even 8x8.
    """
    import torch

    columns = len(weight)
    scale = weight.abs().amax((1, 2, 3)).clamp_min(1e-12) / 127
    low = (weight / scale[:, None, None, None]).round().to(torch.int8)
    even = torch.nn.functional.pad(low, (1, 0, 1, 0))
    apart = even.reshape(columns, COLORS, 4, 2, 4, 2)
    # column, color, block y, y, block x, x -> column, block y, block x, y, x, color
    blocks = apart.permute(0, 2, 4, 3, 5, 1).reshape(columns, 4, 4, 4 * COLORS)
    full = torch.nn.functional.pad(blocks, (0, BLOCK - 4 * COLORS))
    return full.reshape(columns, 4, 4 * BLOCK).contiguous(), scale


def empty_pictures(x: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return memory [batch, channels, height, width], channels last, beside ``x``."""
    import torch

    return torch.empty(
        shape, dtype=dtype, device=x.device, memory_format=torch.channels_last
    )


def run_max_pool(x: Any, dtype: Any, quantize: float, limit: float) -> Any:
    """Run the pooling kernel: 3x3, stride 2, padding 1; channels a power of two."""
    import torch

    from pytest_mlperf.engines.torch.conv import kernels

    batch, channels, height, width = x.shape
    x = x.contiguous(memory_format=torch.channels_last)
    out_height, out_width = (height - 1) // 2 + 1, (width - 1) // 2 + 1
    out = empty_pictures(x, (batch, channels, out_height, out_width), dtype)
    rows = batch * out_height * out_width
    kernels.max_pool[(-(-rows // 32),)](
        x, out, rows, height, width, out_height, out_width, quantize,
        C=channels, M=32, LIMIT=limit,
    )  # fmt: skip
    return out


def run_stem(x: Any, w: Any, scale: Any, bias: Any, unit: float) -> Any:
    """Return the first convolution and its ReLU in fp8, by Triton's kernels."""
    import torch

    from pytest_mlperf.engines.torch.conv import kernels

    batch, height, width, _ = x.shape
    out_channels = w.shape[0]
    out_height, out_width = (height + 1) // 2, (width + 1) // 2
    blocks = batch * (out_height + 3) * (out_width + 3)
    folded = torch.empty((blocks, BLOCK), dtype=torch.int8, device=x.device)
    kernels.fold_pixels[(-(-blocks // 256),)](
        x, folded, blocks, height, width, out_width + 3, out_height + 3, C=COLORS,
        M=256, num_warps=4,
    )  # fmt: skip
    shape = (batch, out_channels, out_height, out_width)
    out = empty_pictures(x, shape, torch.float8_e4m3fn)
    rows = batch * out_height * out_width
    kernels.stem[(-(-rows // 256),)](
        folded, w, scale, bias, out, rows, out_height, out_width, out_width + 3,
        out_height + 3, unit, OUT=out_channels, M=256, LIMIT=FP8_MAX,
        num_warps=4, num_stages=1,
    )  # fmt: skip
    return out


def make_operators(choice: KernelChoice) -> dict[str, Any]:
    """Return ``Int8StemPool`` (int8 pictures in, fp8 out) and ``Fp8Mean`` (fp16 out).

    ``choice``: who runs the first, where the kernel of CUDA C++ takes the pictures.
    """
    import torch

    from pytest_mlperf.engines.torch.conv import kernels

    def stem_pool(at: Any, x: Any, w: Any, scale: Any, bias: Any) -> Any:
        batch, height, width, _ = x.shape
        out_channels = w.shape[0]

        def by_triton() -> Any:
            stem = run_stem(x, w, scale, bias, at["unit"])
            return run_max_pool(stem, torch.float8_e4m3fn, 1.0, FP8_MAX)

        def by_cuda() -> Any:
            shape = (batch, out_channels, height // 4, width // 4)
            out = empty_pictures(x, shape, torch.float8_e4m3fn)
            run_stem_pool(x, w, scale, bias, at["unit"], out)
            return out

        if not fits(height, width, out_channels):
            return by_triton()
        return choice.run(by_cuda, by_triton)

    def mean(at: Any, x: Any) -> Any:
        batch, channels, height, width = x.shape
        pixels = height * width
        if pixels > MOST_PIXELS or channels % MEAN_CHANNELS:
            return x.half().mean((2, 3), keepdim=True) * at["dequantize"]
        out = torch.empty((batch, channels, 1, 1), dtype=torch.float16, device=x.device)
        # One warp adds in its registers: four exchange sums, and take three times long.
        kernels.average_pool[(batch, channels // MEAN_CHANNELS)](
            x, out, channels, at["dequantize"], PIXELS=pixels,
            P=1 << (pixels - 1).bit_length(), C=MEAN_CHANNELS, num_warps=1,
        )  # fmt: skip
        return out

    return {"Int8StemPool": stem_pool, "Fp8Mean": mean}
