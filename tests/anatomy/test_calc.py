"""The lectures' examples of output sizes, parameters and matrix products, by hand or as printed."""

import pytest
import torch
from torch import nn

from striate.anatomy.calc import Conv, Dense, GlobalPool, Keep, Pool, calc, show
from striate.anatomy.fitting import Sliding, misfit, same_padding
from striate.core.errors import UsageError


def conv(filters, kernel, stride=1, padding=0, groups=1, bias=True, name="conv"):
    return Conv(
        name=name,
        filters=filters,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(padding, padding),
        groups=groups,
        bias=bias,
    )


def pool(kernel, stride, padding=0, ceil_mode=False, name="pool"):
    return Pool(
        name=name,
        kind="max",
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(padding, padding),
        ceil_mode=ceil_mode,
    )


def only(sheet):
    (step,) = sheet.steps
    return step


@pytest.mark.parametrize(
    ("arguments", "size", "arithmetic"),
    [
        # N, F, S, P: the lectures' sheets on spatial dimensions, and the convolution animations they show.
        ((7, 3, 1, 0), 5, "(7 + 2*0 - 3)/1 + 1 = 5"),
        ((7, 3, 2, 0), 3, "(7 + 2*0 - 3)/2 + 1 = 3"),
        ((7, 3, 1, 1), 7, "(7 + 2*1 - 3)/1 + 1 = 7"),
        ((32, 5, 1, 2), 32, "(32 + 2*2 - 5)/1 + 1 = 32"),
        ((32, 5, 1, 0), 28, "(32 + 2*0 - 5)/1 + 1 = 28"),
        ((28, 5, 1, 0), 24, "(28 + 2*0 - 5)/1 + 1 = 24"),
        ((4, 3, 1, 0), 2, "(4 + 2*0 - 3)/1 + 1 = 2"),
        ((5, 3, 2, 1), 3, "(5 + 2*1 - 3)/2 + 1 = 3"),
        ((227, 11, 4, 0), 55, "(227 + 2*0 - 11)/4 + 1 = 55"),
    ],
)
def test_output_sizes_of_the_lectures(arguments, size, arithmetic):
    side, kernel, stride, padding = arguments
    step = only(calc((3, side, side), [conv(1, kernel, stride, padding)]))
    assert step.output == (1, size, size)
    assert step.size == (arithmetic,)
    assert step.misfits == ()


def test_ten_5x5_filters_have_760_parameters():
    step = only(calc((3, 32, 32), [conv(10, 5, padding=2)]))
    assert step.parameters_sum == "(5*5*3 + 1) * 10 = 760"
    assert (step.weights, step.biases, step.parameters) == (750, 10, 760)
    assert show(step.output) == "32x32x10"


def test_sizes_shrink_from_32_to_28_to_24():
    steps = calc((3, 32, 32), [conv(6, 5), conv(10, 5)]).steps
    assert [show(step.output) for step in steps] == ["28x28x6", "24x24x10"]


def test_3x3_at_stride_3_does_not_fit_7_pixels_and_the_calculation_goes_on():
    sheet = calc((1, 7, 7), [conv(2, 3, 3), Dense(name="fc", units=5)])
    step = sheet.steps[0]
    (problem,) = step.misfits
    assert step.size == ("(7 + 2*0 - 3)/3 + 1 = 2.33",)
    assert (problem.floor, problem.ceil, problem.zeros) == (2, 3, 3)
    assert (problem.lost_px, problem.missing_px) == (1, 2)
    found = [(one.what, one.value, one.size) for one in problem.fitting]
    # (7 - 3)/2 + 1 = 3; (7 + 2 - 3)/3 + 1 = 3; (6 - 3)/3 + 1 = 2; (9 - 3)/3 + 1 = 3.
    assert found == [("stride", 2, 3), ("pad", 1, 3), ("input", 6, 2), ("input", 9, 3)]
    assert step.output == (2, 2, 2)
    assert sheet.steps[1].weights == 2 * 2 * 2 * 5
    assert not sheet.stopped


def test_224_pixels_do_not_fit_alexnets_first_convolution():
    (problem,) = only(calc((3, 224, 224), [conv(96, 11, 4)])).misfits
    assert problem.arithmetic == "(224 + 2*0 - 11)/4 + 1 = 54.25"
    assert (problem.floor, problem.ceil, problem.zeros, problem.missing_px) == (54, 55, 55, 3)
    found = {(one.what, one.value, one.size) for one in problem.fitting}
    # 213 is 3 * 71; 213 + 2 P is odd, so no padding gives a multiple of 4.
    assert found == {("stride", 3, 72), ("input", 223, 54), ("input", 227, 55)}


def test_a_pool_rounds_up_where_it_says_so():
    # GoogLeNet's pools, 3x3 at stride 2 over 112, 56, 28, 14 maps: the paper's sizes need the ceiling.
    for side, floor, ceil in ((112, 55, 56), (56, 27, 28), (28, 13, 14), (14, 6, 7)):
        assert only(calc((1, side, side), [pool(3, 2)])).output == (1, floor, floor)
        step = only(calc((1, side, side), [pool(3, 2, ceil_mode=True)]))
        assert step.output == (1, ceil, ceil)
        assert step.misfits


def test_a_pool_window_that_would_start_in_the_padding_is_dropped():
    # 3 px with one zero at each end, windows of 2 at 0, 2 and 4: the last one would read padding alone.
    problem = misfit(Sliding(input_px=3, kernel_px=2, stride=2, padding=1, pools=True))
    assert problem is not None
    assert (problem.floor, problem.ceil, problem.zeros) == (2, 2, 3)


@pytest.mark.parametrize("side", range(5, 24))
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_what_would_fit_does_fit(side, kernel):
    for stride in range(1, 6):
        for padding in range(kernel // 2 + 1):
            window = Sliding(input_px=side, kernel_px=kernel, stride=stride, padding=padding, pools=True)
            problem = misfit(window)
            whole = (side + 2 * padding - kernel) % stride == 0
            assert (problem is None) == whole
            for one in problem.fitting if problem else ():
                n, s, p = side, stride, padding
                n, s, p = {
                    "input": (one.value, s, p),
                    "stride": (n, one.value, p),
                    "pad": (n, s, one.value),
                }[one.what]
                assert (n + 2 * p - kernel) % s == 0
                assert (n + 2 * p - kernel) // s + 1 == one.size


def test_a_window_larger_than_its_input_ends_the_calculation():
    sheet = calc((3, 8, 8), [pool(2, 2), conv(4, 7), Dense(name="fc", units=2)])
    assert [step.name for step in sheet.steps] == ["pool"]
    assert sheet.stopped == (
        "conv: expected a window of at most 4 px, the padded input, got 7 px: 4 + 2*0 - 7 is below 0:"
        " use a smaller window or pad 2"
    )


def test_maps_do_not_follow_a_fully_connected_layer():
    sheet = calc((3, 8, 8), [Dense(name="fc", units=2), conv(4, 1)])
    assert sheet.stopped.startswith("conv: expected maps, got the 2 numbers")


def test_groups_must_divide():
    assert "groups that divide 3 channels" in calc((3, 8, 8), [conv(4, 1, groups=2)]).stopped


def test_im2col_of_alexnets_first_convolution():
    product = only(calc((3, 227, 227), [conv(96, 11, 4)])).im2col
    assert product is not None
    assert product.columns == (363, 3025)
    assert product.weights == (96, 363)
    assert product.groups == 1


# Layer, output, parameters, MACs, receptive field and jump: the table of Krizhevsky et al. 2012 as Caffe
# builds it, two groups in conv2, conv4 and conv5.
_ALEXNET = [
    (conv(96, 11, 4, name="conv1"), "55x55x96", 34_944, 105_415_200, (11, 4)),
    (Keep(name="norm1", kind="LRN", stored=True), "55x55x96", 0, 0, (11, 4)),
    (pool(3, 2, name="pool1"), "27x27x96", 0, 0, (19, 8)),
    (conv(256, 5, 1, 2, groups=2, name="conv2"), "27x27x256", 307_456, 223_948_800, (51, 8)),
    (Keep(name="norm2", kind="LRN", stored=True), "27x27x256", 0, 0, (51, 8)),
    (pool(3, 2, name="pool2"), "13x13x256", 0, 0, (67, 16)),
    (conv(384, 3, 1, 1, name="conv3"), "13x13x384", 885_120, 149_520_384, (99, 16)),
    (conv(384, 3, 1, 1, groups=2, name="conv4"), "13x13x384", 663_936, 112_140_288, (131, 16)),
    (conv(256, 3, 1, 1, groups=2, name="conv5"), "13x13x256", 442_624, 74_760_192, (163, 16)),
    (pool(3, 2, name="pool5"), "6x6x256", 0, 0, (195, 32)),
    (Dense(name="fc6", units=4096), "4096", 37_752_832, 37_748_736, (355, None)),
    (Dense(name="fc7", units=4096), "4096", 16_781_312, 16_777_216, (355, None)),
    (Dense(name="fc8", units=1000), "1000", 4_097_000, 4_096_000, (355, None)),
]


def test_alexnets_whole_table():
    sheet = calc((3, 227, 227), [row[0] for row in _ALEXNET])
    for step, (part, output, parameters, macs, field) in zip(sheet.steps, _ALEXNET, strict=True):
        assert (step.name, show(step.output)) == (part.name, output)
        assert (step.parameters, step.macs) == (parameters, macs)
        assert (step.field.rows.size_px, step.field.rows.jump_px) == field
        assert step.field.rows == step.field.columns
    assert sheet.parameters == 60_965_224
    assert sheet.weights == 60_954_656
    assert sheet.macs == 724_406_816


def test_sums_are_spelled_out():
    conv2 = calc((3, 227, 227), [row[0] for row in _ALEXNET]).steps[3]
    assert conv2.parameters_sum == "(5*5*48 + 1) * 256 = 307,456"
    assert conv2.macs_sum == "5*5*48 * 256 * 27*27 = 223,948,800"
    assert conv2.field_sum == "19 + (5 - 1)*8 = 51 px, the next unit 8*1 = 8 px further"
    assert conv2.im2col is not None
    assert (conv2.im2col.weights, conv2.im2col.columns) == ((128, 1200), (1200, 729))
    fc = calc((256, 6, 6), [Dense(name="fc", units=10, bias=False)]).steps[0]
    assert fc.parameters_sum == "6*6*256 * 10 = 92,160"


def test_a_rectangle_has_a_formula_for_each_axis():
    step = only(calc((3, 20, 30), [Conv(name="conv", filters=4, kernel=(1, 7), stride=(1, 2))]))
    assert step.output == (4, 20, 12)
    assert step.size == ("(20 + 2*0 - 1)/1 + 1 = 20", "(30 + 2*0 - 7)/2 + 1 = 12.50")
    assert [problem.axis for problem in step.misfits] == ["width"]
    assert step.weights == 1 * 7 * 3 * 4


def test_a_chain_agrees_with_torch():
    parts = [
        conv(8, 5, 2, 1, groups=2, bias=False),
        Keep(name="bn", kind="batch normalisation", scale_and_shift=True),
        pool(3, 2, 1, ceil_mode=True),
        conv(6, 3, padding=1),
        GlobalPool(name="gap"),
        Dense(name="fc", units=7),
    ]
    net = nn.Sequential(
        nn.Conv2d(4, 8, 5, 2, 1, groups=2, bias=False),
        nn.BatchNorm2d(8),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.Conv2d(8, 6, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Sequential(nn.Flatten(), nn.Linear(6, 7)),
    )
    values = torch.zeros(1, 4, 30, 23)
    sheet = calc((4, 30, 23), parts)
    for step, module in zip(sheet.steps, net, strict=True):
        values = module(values)
        assert step.output == tuple(values.shape[1:])
        assert step.parameters == sum(p.numel() for p in module.parameters())


def test_stored_values_are_the_input_and_each_output_once():
    parts = [conv(2, 3, padding=1), Keep(name="relu", kind="relu"), pool(2, 2), Dense(name="fc", units=3)]
    # 4*4*3 + 4*4*2 + 2*2*2 + 3, the ReLU in place.
    assert calc((3, 4, 4), parts).values == 48 + 32 + 8 + 3


@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 1), (5, 2), (7, 3), (11, 5)])
def test_padding_that_keeps_the_size(kernel, padding):
    answer = same_padding(kernel)
    assert (answer.before, answer.after, answer.symmetric) == (padding, padding, True)
    assert nn.Conv2d(1, 1, kernel, padding=padding)(torch.zeros(1, 1, 16, 16)).shape[-1] == 16


def test_an_even_window_has_no_such_padding():
    answer = same_padding(4)
    assert (answer.before, answer.after, answer.symmetric) == (1, 2, False)
    assert answer.arithmetic == "(4 - 1)/2 = 1.5"


def test_refusals():
    with pytest.raises(UsageError, match="window of at least 1 px, got 0"):
        same_padding(0)
    with pytest.raises(UsageError, match="channels, height and width"):
        calc((3, 0, 8), [])
