"""OpenVINO gives the main thread a signal stack of its own; a signal must still be survived afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from striate.serve import import_openvino as importing

_AFTER = """
import gc, os, signal
import numpy as np
import torch
from striate.data.preprocess import Preprocessing
from striate.nets import build
from striate.serve.engine_openvino import OpenvinoEngine
from striate.serve.quantize_network import quantize_network
from striate.serve.convert_openvino import convert, read_graph
from striate.serve.graph import FromPixels
from striate.weights.bundle import Bundle

torch.manual_seed(0)
pre = Preprocessing(channels=1, height_px=32, width_px=32, resize_px=None, mean=(0.0,), std=(1.0,))
net = build("lenet5_modern").eval()
bundle = Bundle(net="lenet5_modern", classes=tuple("0123456789"), preprocessing=pre, state=net.state_dict())
pixels = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 1), np.uint8)
engine = OpenvinoEngine(convert(FromPixels(net, pre).eval(), pre), "fp32", 16)
engine.logits(pixels)
graphs = quantize_network(net, bundle, pixels)
small = OpenvinoEngine(read_graph(graphs["int8.xml"], graphs["int8.bin"]), "int8", 16)
small.logits(pixels)
engine.close()
small.close()
del engine, small
gc.collect()
heard = []
signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
os.kill(os.getpid(), signal.SIGTERM)
print(heard)
"""


def test_ctrl_c_while_openvino_is_imported_is_ctrl_c(monkeypatch):
    def interrupted(name):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.setattr(importing, "import_module", interrupted)
    with pytest.raises(KeyboardInterrupt):
        importing.import_openvino()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signal stacks of Linux")
def test_a_signal_after_openvino_and_nncf_is_handled(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", _AFTER],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.splitlines()[-1] == "[15]"
