import pytest
import torch

from striate import nets
from striate.core.errors import UsageError


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("vgg-16", "vgg16"), ("ResNet20", "resnet20"), ("lenet-5", "lenet5"), ("plain2", "plain20")],
)
def test_unknown_name_suggests_the_close_one(typed, meant):
    with pytest.raises(UsageError, match=rf"got '{typed}': did you mean .*\b{meant}\b.*run `striate nets`"):
        nets.build(typed)


def test_unknown_name_without_a_close_one():
    with pytest.raises(UsageError) as caught:
        nets.find("quokka")
    assert (
        str(caught.value) == "expected the name of a network, got 'quokka': run `striate nets` for the list"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "vgg16", "width": 3}, "vgg16 expects input_px, dropout, got width: see docs/nets/vgg.md"),
        ({"name": "plain20", "depth": 8}, "plain20 expects no arguments besides num_classes, got depth"),
        ({"name": "vgg16", "input_px": "big"}, "vgg16 expects arguments of other types, got input_px='big'"),
        ({"name": "lenet5", "num_classes": 0}, "lenet5 expects num_classes of at least 1, got 0"),
        ({"name": "vgg16", "input_px": 100}, "positive multiple of 32, got 100: use 224"),
        ({"name": "vgg16", "input_px": 0}, "positive multiple of 32, got 0: use 224"),
        ({"name": "vgg16", "dropout": 1.0}, r"dropout in \[0, 1\), got 1.0: use 0.5"),
    ],
)
def test_wrong_arguments_are_usage_errors(arguments, message):
    with pytest.raises(UsageError, match=message), torch.device("meta"):
        nets.build(**arguments)


@pytest.mark.parametrize("name", nets.NETS)
def test_every_builder_can_be_imported(name):
    space: dict[str, object] = {}
    exec(f"from striate.nets import {name}", space)
    assert space[name] is nets.NETS[name].build
    assert name in dir(nets)


def test_other_attributes_are_missing():
    with pytest.raises(AttributeError, match="'quokka'"):
        _ = nets.quokka


def test_describe_allocates_nothing_and_draws_nothing():
    before = torch.get_rng_state()
    nets.describe("vgg16")
    assert torch.equal(torch.get_rng_state(), before)


def test_describe_counts_what_was_asked_for():
    # fc8 of 10 classes: 4,096 x 10 + 10 in place of 4,096,000 + 1,000
    summary = nets.describe("vgg16", num_classes=10)
    assert summary.parameters == 138_357_544 - 4_097_000 + 40_970
    # at 64 px each convolution has (64/224)^2 = 4/49 of its positions and fc6 reads 512 x 2 x 2 values
    smaller = nets.describe("vgg16", input_px=64)
    assert smaller.input_shape == (3, 64, 64)
    assert smaller.parameters == 138_357_544 - 102_760_448 + 2048 * 4096
    convolutions_at_224 = 15_470_264_320 - 123_633_664
    assert smaller.macs == convolutions_at_224 * 4 // 49 + 2048 * 4096 + 16_777_216 + 4_096_000
