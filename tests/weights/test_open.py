"""What words mean: names, files of weights, folders, modules of one's own."""

import pytest
import torch
from safetensors.torch import save_file

from striate.core.errors import UsageError
from striate.nets import build
from striate.weights.open import is_file_word, open_network, untrained_preprocessing


def images(opened):
    return torch.randn(2, *opened.input_shape)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_foreign_files_open_by_the_name_of_their_network(tmp_path, ending):
    net = build("resnet20", num_classes=3).eval()
    path = tmp_path / f"x{ending}"
    torch.save(net.state_dict(), path) if ending == ".pth" else save_file(net.state_dict(), path)
    opened = open_network(path, net="resnet20")
    batch = images(opened)
    assert opened.trained
    assert (opened.name, opened.classes) == (path.name, ("0", "1", "2"))
    assert not opened.net.training
    assert torch.allclose(opened.net(batch), net(batch), atol=1e-5)
    assert opened.preprocessing == untrained_preprocessing((3, 32, 32))
    assert "does not say what images it expects" in opened.bundle.data["notes"][-1]
    by_name = open_network("resnet20", weights=path)
    assert torch.equal(by_name.net(batch), opened.net(batch))


def test_untrained_networks_have_random_weights_by_seed_and_leave_the_random_state_alone():
    before = torch.get_rng_state()
    first, again, other = (open_network("lenet5_modern", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert (first.trained, first.seed, len(first.classes)) == (False, 1, 10)
    batch = images(first)
    assert torch.equal(first.net(batch), again.net(batch))
    assert not torch.equal(first.net(batch), other.net(batch))
    assert open_network(first) is first


def test_a_module_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "own_net_of_this_test.py").write_text(
        "from torch import nn\n\ndef build(width=2):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(12 * 1, width))\n"
    )
    monkeypatch.chdir(tmp_path)
    opened = open_network("own_net_of_this_test:build", input_shape=(3, 2, 2), arguments={"width": 5})
    assert opened.input_shape == (3, 2, 2)
    assert len(opened.classes) == 5
    with pytest.raises(UsageError, match=r"no input_shape; give `input_shape=3x224x224`"):
        open_network("own_net_of_this_test:build")


def test_which_words_are_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for word in ("runs/a", "x.pth", "x.caffemodel", "x.safetensors"):
        assert is_file_word(word)
    (tmp_path / "vgg16").mkdir()
    for word in ("vgg16", "my.net", "my:build", "[CONV-RELU]*2", "INPUT 8x8x3\nFC 10"):
        assert not is_file_word(word)
    (tmp_path / "vgg16" / "model.safetensors").write_bytes(b"")
    assert is_file_word("vgg16")


def test_a_trained_network_has_its_own_size_and_arguments(tmp_path):
    with pytest.raises(UsageError, match="leave `weights`, `input_shape` and `arguments` out"):
        open_network("runs/a", input_shape=(3, 32, 32))
