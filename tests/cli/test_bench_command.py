import json
import os
import select
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from striate.cli.main import app
from striate.core.errors import UsageError
from striate.serve.bench import bench

cli = CliRunner()


def test_one_engine_in_a_process_of_its_own():
    words = [
        "bench",
        "lenet5",
        "--engine",
        "torch",
        "--precision",
        "fp32",
        "--batch",
        "2",
        "--seconds",
        "0.01",
    ]
    done = cli.invoke(app, [*words, "--json"], catch_exceptions=False)

    (result,) = json.loads(done.stdout)["results"]
    assert (result["engine"], result["precision"], result["error"]) == ("torch", "fp32", None)
    (speed,) = result["speeds"]
    assert speed["batch_images"] == 2
    assert speed["num_calls"] >= 5
    assert result["macs"] == 326_520  # C1, C3, C5, F6 and output: tests/contracts/tables/lenet5.py
    reached = 2 * result["macs"] * speed["images_per_s"]
    assert speed["share_of_ceiling"] == pytest.approx(reached / result["ceiling"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected either a network to measure or --slide, got neither"),
        (["lenet5", "--slide"], "got both"),
        (["lenet5", "--batch", "1,x"], "expected `batch` as whole numbers"),
        (["lenet5", "--precision", "int8", "--engine", "auto"], "int8"),
        (["no_such_net"], "no_such_net"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(words, message):
    with pytest.raises(UsageError, match=message):
        cli.invoke(app, ["bench", *words], catch_exceptions=False)


def test_wrong_choices_are_refused_by_command_and_function(run):
    for words in (["--engine", "caffe"], ["--precision", "int4"]):
        code, out, err = run("bench", "lenet5", *words)
        assert (code, out) == (2, "")
        assert f"'{words[1]}' is not one of 'all', 'auto'" in err
        with pytest.raises(UsageError, match=f"expected `{words[0][2:]}` out of all, auto, .*; got"):
            bench("lenet5", **{words[0][2:]: words[1]})


@pytest.mark.parametrize(("failing", "code"), [({"torch", "openvino"}, 1), ({"openvino"}, 0)])
def test_exit_code_when_engines_fail(monkeypatch, failing, code):
    from striate.serve import bench as benching

    def measured(task):
        if task.engine in failing:
            return benching.Benched(engine=task.engine, precision=task.precision, error="no such operation")
        speed = benching.Speed(batch_images=1, images_per_s=10.0, latency_ms=(1.0, 2.0, 3.0), num_calls=5)
        return benching.Benched(
            engine=task.engine, precision=task.precision, speeds=(speed,), ceiling=1e9, macs=1000
        )

    monkeypatch.setattr(benching, "_in_new_process", measured)
    monkeypatch.setattr(benching, "_engines", lambda device: ["torch", "openvino"])
    done = cli.invoke(app, ["bench", "lenet5", "--precision", "fp32"], catch_exceptions=False)
    assert done.exit_code == code
    assert done.stderr.count("no such operation") == len(failing)
    assert ("images/s  " in done.stdout) is (code == 0)


NETWORK = """
import os
import torch

def build():
    with open(os.environ["OPENED"], "w") as pipe:
        pipe.write("x")
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    net.input_shape = (3, 2, 2)
    return net
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups here")
def test_ctrl_c_ends_both_processes_without_a_traceback(tmp_path):
    """As a terminal sends it: to the command and to the process that measures."""
    (tmp_path / "own.py").write_text(NETWORK)
    os.mkfifo(tmp_path / "opened")
    words = ["bench", "own:build", "--engine", "torch", "--precision", "fp32", "--seconds", "600"]
    process = subprocess.Popen(
        [sys.executable, "-m", "striate.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=tmp_path,
        env={**os.environ, "OPENED": str(tmp_path / "opened")},
    )
    opened = os.open(tmp_path / "opened", os.O_RDWR)
    for _ in range(2):  # the command has built the network, then the process that measures has
        assert select.select([opened], [], [], 60)[0]
        assert os.read(opened, 1) == b"x"
    os.close(opened)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert err == "own:build has random weights\nerror: interrupted\n"
