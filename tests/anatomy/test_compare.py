"""Networks side by side: numbers from the papers and the fact sheet, small cases by hand."""

import csv
import io

import pytest
import torch
from torch import Tensor, nn

from striate import nets
from striate.anatomy.compare import CLAIMS, Comparison, compare, stack_text, times
from striate.anatomy.profile import Profile, depth, profile
from striate.anatomy.trace import trace
from striate.core.errors import UsageError
from striate.nets import notation


def of(name):
    with torch.device("meta"):
        return profile(trace(nets.build(name)), name=name)


def of_text(text, name):
    with torch.device("meta"):
        return profile(trace(notation.build(notation.parse(text))), name=name)


@pytest.fixture(scope="module")
def alexnet_and_googlenet():
    return compare([of("alexnet"), of("googlenet")])


def test_googlenet_has_8_7_times_fewer_parameters_and_2_2_times_the_work(alexnet_and_googlenet):
    alexnet, googlenet = alexnet_and_googlenet.profiles
    assert (alexnet.parameters, googlenet.parameters) == (60_965_224, 6_998_552)
    assert googlenet.training_only == 13_378_280 - 6_998_552
    assert alexnet.macs == 724_406_816
    assert round(googlenet.macs / 1e6, 1) == 1582.7
    assert alexnet_and_googlenet.ratio(googlenet, "parameters") == pytest.approx(1 / 8.711, rel=1e-3)
    assert alexnet_and_googlenet.ratio(googlenet, "macs") == pytest.approx(2.185, rel=1e-3)
    assert alexnet_and_googlenet.ratio(alexnet, "macs") == 1
    parameters, macs = alexnet_and_googlenet.remarks[:2]
    assert "60,965,224 / googlenet 6,998,552 = 8.71" in parameters
    assert "12 times" in parameters
    assert "= 2.18" in macs


@pytest.mark.parametrize(
    ("name", "layers", "field", "jump"),
    [
        ("alexnet", 8, 195, 32),
        ("vgg16", 16, 212, 32),
        ("vgg19", 19, 268, 32),
        ("googlenet", 22, 715, 32),
        ("resnet18", 18, 435, 32),
        ("resnet50", 50, 483, 32),
        ("resnet152", 152, 1507, 32),
        ("lenet5", 5, 16, 4),
    ],
)
def test_depth_and_field_are_those_of_the_papers(name, layers, field, jump):
    found = of(name)
    assert found.depth == layers
    assert found.field is not None
    assert (found.field.rows.size_px, found.field.rows.jump_px) == (field, jump)


def test_resnet152_computes_less_than_vgg():
    found = compare([of("vgg16"), of("vgg19"), of("resnet152")])
    assert [round(one.macs / 1e9, 1) for one in found.profiles] == [15.5, 19.6, 11.3]
    assert (found.profiles[0].weights, found.profiles[0].values) == (138_344_128, 15_237_608)
    assert any("= 8.00" in remark for remark in found.remarks)
    assert any("138,344,128" in remark for remark in found.remarks)


def test_claims_state_the_networks_own_numbers():
    # What the table says in words must be what the networks have.
    naive, bottleneck = of("inception_naive"), of("inception_bottleneck")
    assert naive.macs - 854_196_224 == 3 * 3 * 3 * 256 * 28 * 28 + 672 * 10
    assert bottleneck.macs - 271_351_808 == 3 * 3 * 3 * 256 * 28 * 28 + 480 * 10
    assert round(1 - 271_351_808 / 854_196_224, 3) == 0.682
    assert round(of("googlenet").macs / of("alexnet_lecture").macs, 1) == 1.4
    assert of("vgg16").parameters == 138_357_544
    for claim in CLAIMS:
        assert set(claim.networks) <= set(nets.NETS)
        assert claim.source


def test_three_3x3_see_what_one_7x7_sees_for_27_against_49():
    text = "56x56x64 > conv 64 3x3 p1 > conv 64 3x3 p1 > conv 64 3x3 p1"
    found = compare([of_text(text, "three"), of_text("56x56x64 > conv 64 7x7 p3", "one")])
    three, one = found.profiles
    assert (three.weights, one.weights) == (27 * 64**2, 49 * 64**2)
    assert three.field is not None
    assert three.field.rows.size_px == three.field.columns.size_px == 7
    (remark,) = found.remarks
    assert "The receptive fields are equal" in remark
    assert "27 C^2 = 110,592" in remark
    assert "49 C^2 = 200,704, 81% more" in remark


def test_other_fields_are_not_called_equal():
    two = of_text("56x56x64 > conv 64 3x3 p1 > conv 64 3x3 p1", "two")
    assert compare([two, of_text("56x56x64 > conv 64 7x7 p3", "one")]).remarks == ()


def test_stacks_with_other_channels_are_not_measured_in_squares():
    found = compare(
        [of_text("56x56x64 > conv 32 3x3 p1", "narrow"), of_text("56x56x64 > conv 64 3x3 p1", "wide")]
    )
    assert found.profiles[0].width is None
    assert found.profiles[1].width == 64
    assert "C^2" not in found.remarks[0]


def test_short_form_of_a_stack():
    assert stack_text("conv 3x3 x2") == "INPUT 56x56x64 > CONV 64 3x3 pad same > CONV 64 3x3 pad same"
    assert stack_text("CONV 7X7", channels=8, input_px=9) == "INPUT 9x9x8 > CONV 8 7x7 pad same"
    assert stack_text("vgg16") is None
    assert stack_text("56x56x64 > conv 64 3x3 p1") is None
    with pytest.raises(UsageError, match="odd sides, got 4x4"):
        stack_text("conv 4x4")
    with pytest.raises(UsageError, match="at least one convolution"):
        stack_text("conv 3x3 x0")


def test_a_shortcut_with_a_projection_is_not_depth():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 3, padding=1)
            self.second = nn.Conv2d(4, 4, 3, padding=1)
            self.projection = nn.Conv2d(3, 4, 1)
            self.head = nn.Linear(4 * 64, 2)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.second(torch.relu(self.first(images))) + self.projection(images)
            return self.head(maps.flatten(1))

    assert depth(trace(Block(), (3, 8, 8))) == 3


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1, "equal"),
        (2.18, "2.2x"),
        (1 / 8.71, "1/8.7"),
        (1 / 3, "1/3"),
        (8, "8x"),
        (1.0128, "1.01x"),
        (0.9998, "about 1x"),
        (142_095.6, "142,096x"),
        (0, "0"),
    ],
)
def test_ratios_in_words(ratio, text):
    assert times(ratio) == text


def a_profile(name, parameters=10, error=""):
    return Profile(
        name=name,
        input_shape=(3, 8, 9),
        parameters=parameters,
        weights=parameters,
        training_only=0,
        macs=0,
        values=216,
        depth=1,
        field=None,
        field_layer="",
        width=None,
        published_error=error,
    )


def test_tables_carry_every_network():
    found = compare([a_profile("a", 10), a_profile("b|c", 25, "1 % | test")])
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [row["name"] for row in rows] == ["a", "b|c"]
    assert [float(row["parameters_ratio"]) for row in rows] == [1, 2.5]
    assert rows[1]["macs_ratio"] == ""  # nothing to divide by
    assert found.to_dict()["ratios_to"] == "a"
    lines = found.to_markdown().splitlines()
    assert lines[0] == "| | a | b\\|c |"
    assert "| parameters | 10 | 25 (2.5x) |" in lines
    assert "| published error | - | 1 % \\| test |" in lines
    assert "| input | 8x9x3 | 8x9x3 |" in lines


def test_refusals():
    with pytest.raises(UsageError, match="at least two networks to compare, got 1"):
        compare([a_profile("a")])
    with pytest.raises(UsageError, match="each network once, got a twice"):
        compare([a_profile("a"), a_profile("b"), a_profile("a")])
    assert isinstance(compare([a_profile("a"), a_profile("b")]), Comparison)
