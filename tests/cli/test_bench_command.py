import json

import pytest
from typer.testing import CliRunner

from striate.cli.main import app
from striate.core.errors import UsageError

run = CliRunner()


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
    done = run.invoke(app, [*words, "--json"], catch_exceptions=False)

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
        (["lenet5", "--batch", "1,x"], "expected --batch as whole numbers"),
        (["lenet5", "--engine", "caffe"], "expected an engine out of auto, torch, openvino; got 'caffe'"),
        (["lenet5", "--precision", "int8", "--engine", "auto"], "int8"),
        (["no_such_net"], "no_such_net"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(words, message):
    with pytest.raises(UsageError, match=message):
        run.invoke(app, ["bench", *words], catch_exceptions=False)
