"""Official detection trees in miniature: pictures, annotations, models that run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLORS = ((250, 60, 40), (120, 250, 40), (10, 30, 250))
"""Of the pictures; the models below tell how red one is."""
SIZES = ((320, 240), (200, 300), (256, 256))
"""Width and height of each picture."""
CATEGORIES = (1, 5, 90)
"""Category ids with gaps, as COCO's."""


def write_tree(annotations: Path, pictures: Path) -> dict[str, Any]:
    """Write three plain pictures with one box each; return the annotations."""
    pictures.mkdir(parents=True)
    annotations.parent.mkdir(parents=True)
    images, boxes = [], []
    for number, (color, (width, height)) in enumerate(zip(COLORS, SIZES, strict=True)):
        name = f"{number:012d}.jpg"
        Image.new("RGB", (width, height), color).save(pictures / name, "JPEG")
        images.append(
            {"id": 70 - number, "file_name": name, "width": width, "height": height}
        )
        box = [width * 0.25, height * 0.5, width * 0.5, height * 0.25]
        boxes.append(
            {
                "id": number + 1,
                "image_id": 70 - number,
                "category_id": CATEGORIES[1],
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
        )
    content = {
        "images": images,
        "annotations": boxes,
        "categories": [{"id": number} for number in CATEGORIES],
    }
    annotations.write_text(json.dumps(content))
    return content


def write_model(path: Path, nodes: list[Any], inputs: Any, outputs: Any) -> None:
    """Write an ONNX graph of nodes and ``Constant``s."""
    import onnx
    from onnx import helper

    path.parent.mkdir(parents=True)
    graph = helper.make_graph(nodes, "detector", inputs, outputs)
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def make_floats(values: object) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def constant(name: str, values: Any) -> Any:
    from onnx import helper
    from onnx import numpy_helper

    tensor = numpy_helper.from_array(np.asarray(values), name)
    return helper.make_node("Constant", [], [name], value=tensor)


def write_retinanet(path: Path, *, label: int = CATEGORIES[1]) -> None:
    """Write a graph of one sample that finds the box and, in red pictures, one more.

    Outputs are as long as there are objects, as the official graph's.
    """
    from onnx import TensorProto
    from onnx import helper

    nodes = [
        constant("all_boxes", make_floats([[200, 400, 600, 600], [0, 0, 80, 80]])),
        constant("all_labels", np.array([label, label])),
        constant("certainty", make_floats([1, 0.5])),
        constant("limit", make_floats([0.4])),
        constant("floor", make_floats([0.0, 0.7])),
        helper.make_node("ReduceMean", ["images"], ["levels"], axes=[2, 3], keepdims=0),
        constant("first", np.int64(0)),
        helper.make_node("Gather", ["levels", "first"], ["of_sample"], axis=0),
        helper.make_node("Gather", ["of_sample", "first"], ["red"], axis=0),
        helper.make_node("Greater", ["red", "floor"], ["present"]),
    ]
    for name in ("boxes", "labels"):
        nodes.append(
            helper.make_node("Compress", [f"all_{name}", "present"], [name], axis=0)
        )
    nodes.append(helper.make_node("Compress", ["certainty", "present"], ["scores"]))
    values = helper.make_tensor_value_info
    write_model(
        path,
        nodes,
        [values("images", TensorProto.FLOAT, [1, 3, 800, 800])],
        [
            values("boxes", TensorProto.FLOAT, ["n", 4]),
            values("labels", TensorProto.INT64, ["n"]),
            values("scores", TensorProto.FLOAT, ["n"]),
        ],
    )


def write_ssd_mobilenet(path: Path) -> None:
    """Write a graph of any batch, channels last, that finds the one box."""
    from onnx import TensorProto
    from onnx import helper

    nodes = [
        constant("box", make_floats([[[0.5, 0.25, 0.75, 0.75], [0, 0, 0, 0]]])),
        constant("score", make_floats([[0.9, 0.0]])),
        constant("label", make_floats([[CATEGORIES[1], 1]])),
        constant("count", make_floats([1])),
        helper.make_node("Cast", ["image_tensor:0"], ["numbers"], to=1),
        helper.make_node(
            "ReduceMean", ["numbers"], ["mean"], axes=[1, 2, 3], keepdims=0
        ),
        constant("zero", np.float32(0)),
        helper.make_node("Mul", ["mean", "zero"], ["zeros"]),
        constant("axis", np.array([1])),
        helper.make_node("Unsqueeze", ["zeros", "axis"], ["zeros2"]),
        constant("axes", np.array([1, 2])),
        helper.make_node("Unsqueeze", ["zeros", "axes"], ["zeros3"]),
        helper.make_node("Add", ["zeros", "count"], ["num_detections:0"]),
        helper.make_node("Add", ["zeros3", "box"], ["detection_boxes:0"]),
        helper.make_node("Add", ["zeros2", "score"], ["detection_scores:0"]),
        helper.make_node("Add", ["zeros2", "label"], ["detection_classes:0"]),
    ]
    values = helper.make_tensor_value_info
    write_model(
        path,
        nodes,
        [values("image_tensor:0", TensorProto.UINT8, ["b", "h", "w", 3])],
        [
            values("num_detections:0", TensorProto.FLOAT, ["b"]),
            values("detection_boxes:0", TensorProto.FLOAT, ["b", 2, 4]),
            values("detection_scores:0", TensorProto.FLOAT, ["b", 2]),
            values("detection_classes:0", TensorProto.FLOAT, ["b", 2]),
        ],
    )


def write_ssd_resnet34(path: Path) -> None:
    """Write a graph of one sample that finds the box, its label counted from one."""
    from onnx import TensorProto
    from onnx import helper

    nodes = [
        constant("box", make_floats([[[0.5, 0.25, 0.75, 0.75], [0, 0, 0.1, 0.1]]])),
        constant("score", make_floats([[0.9, 0.01]])),
        constant("label", make_floats([[2, 1]])),
        helper.make_node("ReduceMean", ["image:0"], ["mean"], keepdims=0),
        constant("zero", np.float32(0)),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "box"], ["detection_bboxes:0"]),
        helper.make_node("Add", ["nothing", "score"], ["detection_scores:0"]),
        helper.make_node("Add", ["nothing", "label"], ["detection_classes:0"]),
    ]
    values = helper.make_tensor_value_info
    write_model(
        path,
        nodes,
        [values("image:0", TensorProto.FLOAT, [1, 3, 1200, 1200])],
        [
            values("detection_bboxes:0", TensorProto.FLOAT, [1, 2, 4]),
            values("detection_classes:0", TensorProto.FLOAT, [1, 2]),
            values("detection_scores:0", TensorProto.FLOAT, [1, 2]),
        ],
    )


def write_yolo(path: Path) -> None:
    """Write a graph of any batch that finds the one box, whatever the picture's shape.

    It looks for where the gray bars end: boxes are in pixels of the letterboxed input.
    """
    from onnx import TensorProto
    from onnx import helper

    scores = np.zeros((1, 80, 2), np.float32)
    scores[0, 4, 0] = 0.9  # COCO's category 5
    nodes = [
        constant("gray", np.float32(114 / 255)),
        constant("some", np.float32(0.01)),
        constant("axes", np.array([1, 2, 3])),
        constant("column", np.array([1, 2])),
        constant("middle", np.float32(320)),
        constant("half", np.float32(0.5)),
        constant("eighth", np.float32(0.125)),
        constant("quarter", np.float32(0.25)),
        constant("zero", np.float32(0)),
        helper.make_node("Sub", ["images", "gray"], ["above"]),
        helper.make_node("Abs", ["above"], ["far"]),
        helper.make_node("Greater", ["far", "some"], ["is_picture"]),
        helper.make_node("Cast", ["is_picture"], ["picture"], to=1),
    ]
    # Rows, then columns, that are the picture's: their number is its height and width.
    for axis, name in ((3, "height"), (2, "width")):
        nodes += [
            helper.make_node("ReduceMax", ["picture"], [f"{name}1"], axes=[1, axis]),
            helper.make_node("ReduceSum", [f"{name}1", "axes"], [name], keepdims=0),
        ]
    parts = {
        "x": ("Mul", "width", "zero", "middle"),
        "y": ("Mul", "height", "eighth", "middle"),
        "w": ("Mul", "width", "half", "zero"),
        "h": ("Mul", "height", "quarter", "zero"),
    }
    for name, (kind, left, right, more) in parts.items():
        nodes += [
            helper.make_node(kind, [left, right], [f"{name}1"]),
            helper.make_node("Add", [f"{name}1", more], [f"{name}2"]),
            helper.make_node("Unsqueeze", [f"{name}2", "column"], [name]),
        ]
    nodes += [
        constant("scores1", scores),
        helper.make_node("Concat", list(parts), ["box1"], axis=1),
        helper.make_node("Concat", ["box1", "box1"], ["boxes"], axis=2),
        helper.make_node("Mul", ["x", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "scores1"], ["scores"]),
        helper.make_node("Concat", ["boxes", "scores"], ["output0"], axis=1),
    ]
    values = helper.make_tensor_value_info
    write_model(
        path,
        nodes,
        [values("images", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [values("output0", TensorProto.FLOAT, ["batch", 84, "anchors"])],
    )
