"""Each export in an environment that has its runtime and no striate, by the example that it carries."""

import subprocess
import sys
import venv

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import softmax
from sklearn.datasets import load_sample_image

from striate.data.preprocess import Preprocessing
from striate.nets import build
from striate.serve.export_example import PACKAGES
from striate.serve.export_images import sample_pixels
from striate.serve.export_network import SUFFIXES, export_network
from striate.weights.bundle import Bundle

PRE = Preprocessing(
    channels=3, height_px=32, width_px=32, resize_px=40, mean=(0.4, 0.4, 0.4), std=(0.2, 0.2, 0.2)
)


@pytest.mark.slow
@pytest.mark.parametrize("to", SUFFIXES)
def test_example_runs_where_striate_is_not(to, tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        net = build("resnet20", num_classes=10).eval()
    classes = tuple(f"class {k}" for k in range(10))
    bundle = Bundle(net="resnet20", classes=classes, preprocessing=PRE, state=net.state_dict())
    path = tmp_path / "export" / f"resnet20{SUFFIXES[to]}"
    pixels, words = sample_pixels(PRE)
    made = export_network(net, bundle, path, to=to, pixels=pixels, images=words)
    photo = Image.fromarray(load_sample_image("china.jpg"))
    photo.save(tmp_path / "china.png")

    venv.create(tmp_path / "fresh", with_pip=True)
    python = tmp_path / "fresh" / "bin" / "python"
    # The file's own runtime in the version that wrote it: .pt2 files promise nothing between versions.
    packages = [f"torch=={torch.__version__.partition('+')[0]}" if p == "torch" else p for p in PACKAGES[to]]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True, timeout=1800)
    absent = subprocess.run([python, "-c", "import striate"], capture_output=True, text=True, cwd=tmp_path)
    assert "No module named 'striate'" in absent.stderr

    run = subprocess.run(
        [python, made.files[-1], tmp_path / "china.png"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    small = photo.resize((round(photo.width * 40 / photo.height), 40), Image.Resampling.BILINEAR)
    left = (small.width - 32) // 2
    pixels = np.asarray(small.crop((left, 4, left + 32, 36)), np.float32)
    with torch.no_grad():
        logits = net(torch.from_numpy((pixels / 255 - 0.4) / 0.2).permute(2, 0, 1)[None])[0].numpy()
    expected = softmax(logits)
    best = expected.argsort()[::-1][:5]
    lines = run.stdout.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == [classes[k] for k in best]
    shown = [float(line.split("%")[0]) / 100 for line in lines]
    np.testing.assert_allclose(shown, expected[best], atol=2e-4)
    assert sys.prefix not in run.stdout
