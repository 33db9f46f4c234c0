"""The example that travels with an exported network: an image file in, class names out, without striate."""

from pathlib import Path
from typing import Literal

from striate.data.preprocess import Preprocessing

ExportFormat = Literal["onnx", "openvino", "torch-export"]

PACKAGES: dict[ExportFormat, tuple[str, ...]] = {
    "onnx": ("onnxruntime", "numpy", "pillow"),
    "openvino": ("openvino", "numpy", "pillow"),
    "torch-export": ("torch", "numpy", "pillow"),
}
"""What the example of each format needs."""

_LOAD: dict[ExportFormat, tuple[str, str, str, str]] = {
    "onnx": (
        "import onnxruntime",
        "model = onnxruntime.InferenceSession(str(path))",
        'classes = json.loads(model.get_modelmeta().custom_metadata_map["classes"])',
        'logits, probabilities = model.run(None, {"pixels": pixels})',
    ),
    "openvino": (
        "import openvino",
        "graph = openvino.Core().read_model(path)",
        'classes = json.loads(graph.get_rt_info(["striate", "classes"]).astype(str))',
        "logits, probabilities = openvino.compile_model(graph, config=fp32)(pixels).to_tuple()",
    ),
    "torch-export": (
        "import torch",
        'model = torch.export.load(path, extra_files=(extra := {"classes": ""})).module()',
        'classes = json.loads(extra["classes"])',
        "logits, probabilities = (one.detach().numpy() for one in model(torch.from_numpy(pixels)))",
    ),
}


def example_of(to: ExportFormat, name: str, preprocessing: Preprocessing, batch_images: int | None) -> str:
    """Write a program of about ten lines that classifies an image file with an exported network.

    It does what ``data.preprocess.to_pixels`` does, with two differences: an image over 16 times as long as
    wide is resized whole, and transparency is dropped instead of laid on a ground.

    Args:
        to: the format, which gives the runtime.
        name: the exported file, which lies beside the program.
        preprocessing: what happens before the network.
        batch_images: fixed number of images of the graph; None if any number goes.

    Returns:
        Python source that needs the runtime, NumPy and Pillow.
    """
    pre = preprocessing
    module, load, classes, run = _LOAD[to]
    mode, ground = ("L", str(pre.fill)) if pre.channels == 1 else ("RGB", str((pre.fill,) * 3))
    width, height, side = pre.width_px, pre.height_px, pre.resize_px
    resize = [
        f"scale = {side or min(width, height)} / min(image.size)",
        "size = [round(side * scale) for side in image.size]",
    ]
    filter_name = f"Image.Resampling.{pre.interpolation.upper()}"
    if side is None:
        resize[0] += f" if image.width > {width} or image.height > {height} else 1"
    several = "" if batch_images in (None, 1) else f".repeat({batch_images}, 0)"
    lines = [
        f"# Needs: pip install {' '.join(PACKAGES[to])}    Run: python THIS_FILE PHOTO",
        "import json, pathlib, sys",
        module,
        "import numpy as np",
        "from PIL import Image, ImageOps",
        "",
        f"path = pathlib.Path(__file__).with_name({name!r})",
        load,
        classes,
        *(
            ['fp32 = {"INFERENCE_PRECISION_HINT": "f32"}  # as checked; bf16 is faster where there is one']
            if to == "openvino"
            else []
        ),
        f'image = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("{mode}")',
        *resize,
        f"image = image.resize(size, {filter_name})",
        f'canvas = Image.new("{mode}", ({width}, {height}), {ground})',
        f"canvas.paste(image, (-((image.width - {width}) // 2), -((image.height - {height}) // 2)))",
        f"pixels = np.array(canvas, np.uint8).reshape(1, {height}, {width}, {pre.channels}){several}",
        run,
        "for k in probabilities[0].argsort()[::-1][:5]:",
        '    print(f"{probabilities[0][k]:7.2%}  {classes[k]}")',
    ]
    return "\n".join(lines) + "\n"


def example_path(path: Path) -> Path:
    """Say where the example of an exported file is written: ``FILE.example.py``."""
    return path.with_name(f"{path.name}.example.py")


def words_of(preprocessing: Preprocessing) -> str:
    """Say in words what must happen to an image before it goes into an exported network."""
    pre = preprocessing
    kind = "grey (ITU-R 601 luma)" if pre.channels == 1 else "RGB"
    size = f"{pre.height_px} x {pre.width_px}"
    if pre.resize_px is None:
        resize = (
            f"if it is larger than {size}, resize the shorter side to {min(pre.height_px, pre.width_px)}"
            f" pixels ({pre.interpolation}, antialiased)"
        )
    else:
        resize = f"resize the shorter side to {pre.resize_px} pixels ({pre.interpolation}, antialiased)"
    return f"upright, {kind}; {resize}; cut out the centre {size}, a missing border is level {pre.fill}"
