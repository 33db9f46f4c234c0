"""The example beside an exported network: an image file in, class names out, without striate."""

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
        "onnxruntime",
        "model = onnxruntime.InferenceSession(str({path}))",
        'classes = json.loads(model.get_modelmeta().custom_metadata_map["classes"])',
        'probabilities = model.run(["probabilities"], {"pixels": pixels})[0][0]',
    ),
    "openvino": (
        "openvino",
        "model = openvino.Core().read_model({path})",
        'classes = json.loads(model.get_rt_info(["striate", "classes"]).astype(str))',
        'probabilities = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})'
        "(pixels)[1][0]",
    ),
    "torch-export": (
        "torch",
        'model = torch.export.load({path}, extra_files=(extra := {{"classes": ""}})).module()',
        'classes = json.loads(extra["classes"])',
        "probabilities = model(torch.from_numpy(pixels))[1][0].tolist()",
    ),
}
"""What to import; how to open, to get the classes, to run: logits are output 0, probabilities 1."""


def example_of(to: ExportFormat, name: str, preprocessing: Preprocessing, batch_images: int | None) -> str:
    """Write a program of ten lines that classifies an image file with an exported network.

    It does what ``data.preprocess.to_pixels`` does, with these differences: Pillow resizes, an image over 16
    times as long as wide is resized whole, and transparency is dropped instead of laid over white.

    Args:
        to: the format, which gives the runtime.
        name: the exported file, beside the program.
        preprocessing: what happens before the network.
        batch_images: fixed number of images of the graph; None if it takes any number.

    Returns:
        Python source that needs the runtime, NumPy and Pillow.
    """
    pre = preprocessing
    module, load, classes, run = _LOAD[to]
    width, height = pre.width_px, pre.height_px
    grey = pre.channels == 1
    mode = "L" if grey else "RGB"
    scale = f"scale = {pre.resize_px or min(width, height)} / min(image.size)"
    if pre.resize_px is None:
        scale += f" if image.width > {width} or image.height > {height} else 1"
    if pre.fill and (pre.resize_px or 0) < max(width, height):  # crop's border is level 0
        level = pre.fill if grey else (pre.fill,) * 3
        cut = f"transform(({width}, {height}), PIL.Image.AFFINE, (1, 0, left, 0, 1, top), fillcolor={level})"
    else:
        cut = f"crop((left, top, left + {width}, top + {height}))"
    several = "" if batch_images in (None, 1) else f".repeat({batch_images}, 0)"
    lines = [
        f"# Needs: pip install {' '.join(PACKAGES[to])}    Run: python THIS_FILE PHOTO",
        f"import json, pathlib, sys, numpy, {module}, PIL.Image, PIL.ImageOps",
        load.format(path=f"pathlib.Path(__file__).with_name({name!r})"),
        classes,
        f'image = PIL.ImageOps.exif_transpose(PIL.Image.open(sys.argv[1])).convert("{mode}")',
        scale,
        "image = image.resize([round(side * scale) for side in image.size],"
        f" PIL.Image.{pre.interpolation.upper()})",
        f"left, top = (image.width - {width}) // 2, (image.height - {height}) // 2",
        f"pixels = numpy.array(image.{cut})[None{', :, :, None' if grey else ''}]{several}",
        run,
        r'print("\n".join(f"{p:7.2%}  {name}"'
        " for p, name in sorted(zip(probabilities, classes), reverse=True)[:5]))",
    ]
    return "\n".join(lines) + "\n"


def example_path(path: Path) -> Path:
    """Return where the example of an exported file is written: ``FILE.example.py``."""
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
