"""What the notation refuses, and where it says so; lines of the lectures' slides that are no layers."""

import pytest
from notation_texts import message

from striate.nets import notation
from striate.nets.notation import Conv, FullyConnected

# ---------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "net:1:1: expected INPUT before the first layer, got none: write INPUT 32x32x3"),
        ("\n  FC 3", "net:2:3: expected INPUT before the first layer, got a layer"),
        ("INPUT 8x8x3", "net:1:1: expected a layer behind INPUT, got none"),
        ("INPUT 8x8", "net:1:7: expected height x width x channels behind INPUT, got 2 numbers"),
        ("INPUT", "net:1:6: expected height x width x channels behind INPUT, got no numbers"),
        ("INPUT 8x8x0\nFC 3", "net:1:1: expected an input of three sizes"),
        ("INPUT 8x8x3 big\nFC 3", "net:1:13: expected one size behind INPUT, got 'big'"),
        (
            "INPUT 8x8x3\nFC 3\nINPUT 8x8x3",
            "net:3:1: expected one INPUT, got a second one beside that of line 1",
        ),
        ("INPUT 8x8x3\n\n  CONVV 3", "net:3:3: expected a layer, got 'CONVV': did you mean CONV?"),
        ("INPUT 8x8x3\nCONV 3x3", "net:2:1: expected the number of filters, got none"),
        ("INPUT 8x8x3\nCONV 64", "net:2:1: expected the size of the filters, got none"),
        (
            "INPUT 8x8x3\nCONV 4 3x3 colour 2",
            "net:2:12: expected a convolution as in CONV 16 5x5 stride 1 pad 2",
        ),
        ("INPUT 8x8x3\nCONV 4 3x3 stride", "net:2:18: expected a whole number, got the end of the line"),
        ("INPUT 8x8x3\nCONV 4 3x3 stride 2 /2", "net:2:21: expected one stride, got a second one"),
        (
            "INPUT 8x8x3\nCONV 4 3x3 stride 0",
            "net:2:1: expected a whole number from 1 to 100,000 as stride, got 0",
        ),
        (
            "INPUT 8x8x3\nCONV 4 3x3x5",
            "net:2:1: expected filters of depth 3, the channels of the input, got 5",
        ),
        ("INPUT 8x8x3\nCONV 4 4x4 pad same", "net:2:16: expected filters of odd sides"),
        ("INPUT 8x8x3\nCONV 4 2x2 stride 2 ceil", "net:2:21: expected floor for a convolution, got ceil"),
        (
            "INPUT 8x8x3\nCONV 4 3x3 groups 2",
            "net:2:1: expected groups that divide the 3 channels of the input, got 2",
        ),
        (
            "INPUT 8x8x4\nCONV 3 3x3 groups 2",
            "net:2:1: expected a number of filters that 2 groups can share, got 3",
        ),
        (
            "INPUT 8x8x3\nPOOL 3x3",
            "net:2:1: expected the stride of a 3x3 pool, got none: write stride 2 behind it",
        ),
        ("INPUT 8x8x3\nPOOL 2x2 pad 2", "net:2:1: expected a pad of at most half the window, 1, got 2"),
        ("INPUT 8x8x3\nRELU 3", "net:2:6: expected RELU alone, got a number too: leave it out"),
        (
            "INPUT 8x8x3\nFC6",
            "net:2:1: expected a fully connected layer as in FC6: 4096 neurons, got no number",
        ),
        (
            "INPUT 8x8x3\nFC 4,096",
            "net:2:6: expected one number, got 4 and 096: leave one out, and write 4096",
        ),
        (
            "INPUT 8x8x3\nFC 3 > POOL",
            "net:2:8: expected maps before a Pool, got the 3 numbers of a fully connected",
        ),
        ("INPUT 8x8x3\nFLATTEN\nPOOL", "net:3:1: expected FC behind FLATTEN, got a layer of maps"),
        ("INPUT 8x8x3\nSOFTMAX 3\nRELU", "net:3:1: expected nothing behind SOFTMAX of line 2, got more"),
        ("INPUT 8x8x3\nFC 10 > SOFTMAX 10", "net:2:9: expected SOFTMAX alone behind FC 10, got SOFTMAX 10"),
        ("INPUT 8x8x3\nSOFTMAX", "net:1:1: expected a layer behind INPUT, got none"),
        ("INPUT 8x8x3\nDROPOUT 1", "net:2:1: expected a fraction in [0, 1) for a dropout, got 1.0"),
        ("INPUT 8x8x3\nLEAKY RELU 1e999", "net:2:1: expected the constant of leaky relu to be a number"),
        ("INPUT 8x8x3\nNORM size 4", "net:2:1: expected an odd size of the normalisation, got 4"),
        (
            "INPUT 8x8x3\nCONV1: 4 3x3\nCONV1: 4 3x3",
            "net:3:1: expected each label once, got conv1, which is on line 2",
        ),
        ("INPUT 8x8x3\nforward: FC 3", "net:2:10: expected a label that is free, got forward"),
        ("INPUT 8x8x3\nclass: FC 3", "net:2:8: expected a label that is free, got class"),
        ("INPUT 8x8x3\nFC 3 >> FC 3", "net:2:7: expected a layer between two arrows, got nothing"),
        ("INPUT 8x8x3\nFC 3 é", "net:2:6: expected letters, digits or the notation's symbols, got 'é'"),
        ("INPUT 8x8x3\nFC 99999999999999999999", "net:2:4: expected a number of at most 12 digits"),
        (
            "INPUT 8x8x3\nFC 1000001",
            "net:2:4: expected a whole number from 1 to 1,000,000 as units, got 1000001",
        ),
        (
            "INPUT 8x8x3\nRELU\nFC 3\nACTIVATION TANH",
            "net:2:1: expected no activation beside ACTIVATION of line 4",
        ),
        ("INPUT 8x8x3\nACTIVATION SOFT", "net:2:12: expected NONE or an activation, got 'SOFT'"),
        (
            "INPUT 8x8x3\nACTIVATION NONE\nACTIVATION NONE",
            "net:3:1: expected one line ACTIVATION, got a second one",
        ),
        (
            "INPUT 8x8x3\nFC 3 (10 of them)",
            "net:2:7: expected a remark in words and then a closing parenthesis",
        ),
        ("INPUT 8x8x3\nFC: [3x3", "net:2:6: expected a volume such as [55x55x96] or [4096], got '3x3'"),
        (
            "INPUT 32x32x3\nMAX POOL1: 96 11x11 filters applied at stride 4",  # a slip on one lecture's slide
            "net:2:12: expected a pool as in MAX POOL 3x3 stride 2, got a number too: leave it out",
        ),
        (
            "[227x227x3] INPUT\n  [54x54x96] CONV1: 96 11x11 filters at stride 4, pad 0",
            "net:2:3: expected the volume [55x55x96] from (227 - 11)/4 + 1 = 55, got [54x54x96]:"
            " correct the volume, or the layers up to here",
        ),
        ("INPUT 8x8x3\n[4] FC 3", "net:2:1: expected the volume [3], got [4]: correct"),
        ("INPUT 8x8x3\n[1x2x3] FC 3", "net:2:1: expected the volume [3], got [1x2x3]: correct"),
        (
            "INPUT 32x32x3\nCONV3-64: [32x32x64] params: (3*3*3)*64 = 1,729",
            "net:2:30: expected params: (3*3*3)*64 = 1,728 without biases, got 1,729: correct the number",
        ),
        (
            "INPUT 32x32x3\nCONV3-64: params: 1,792",
            "net:2:19: expected params: (3*3*3)*64 = 1,728 without biases, got 1,792, which counts",
        ),
        (
            "INPUT 7x7x512\nFC: [1x1x4096] params: 7*7*512*4095",
            "net:2:24: expected params: 7*7*512*4096 = 102,760,448 without biases, got 7*7*512*4095:",
        ),
        ("INPUT 7x7x512\nFC 3 params: many", "net:2:14: expected a number of weights such as 1,728"),
        (
            "INPUT 1x1x2\nFC 3 params: 7 params: 6",
            "net:2:14: expected params: 1*1*2*3 = 6 without biases, got 7: correct",
        ),
        ("INPUT 8x8x3\nCONV 1e3 3x3", "net:2:6: expected a whole number, got '1e3': write digits alone"),
        ("INPUT 8x8x3\nNORM size 1.5", "net:2:11: expected a whole number, got '1.5': write digits alone"),
        (
            "INPUT 8x8x3\nCONV -5 3x3",
            "net:2:6: expected a whole number from 1 on, got -5: write CONV-64, or the number alone",
        ),
        ("INPUT 8x8x3\nFC -3", "net:2:4: expected a whole number from 1 on, got -3: write FC-64, or the"),
        ("INPUT 8x8x3\nFC -", "net:2:5: expected a whole number, got the end of the line"),
        (
            "INPUT 8x8x3\nCONV 5 3.5x3",
            "net:2:8: expected a size of whole numbers such as 3x3, got '3.5x3': correct it",
        ),
        (
            "INPUT 8x8x3\nCONV 5 3x3.5 pad 1",
            "net:2:8: expected a size of whole numbers such as 3x3, got '3x3.5': correct it",
        ),
        (
            "INPUT 0x9x4\nFC 3",
            "net:1:1: expected an input of three sizes (height x width x channels) from 1 to 100,000,"
            " got 0x9x4: correct the input",
        ),
        (
            "INPUT 32x32x3\nCONV 16 3x3 pad 1 - RELU - POOL - FC 10",
            "net:2:6: expected - or the end of the pattern, got '16': write > between layers that have"
            " numbers, as in CONV 16 3x3 > RELU",
        ),
        (
            "INPUT 32x32x3 - CONV 16 3x3 - FC 10",
            "net:1:15: expected one size behind INPUT, got '-': write > between layers",
        ),
        (
            "INPUT 32x32x3\nCONV 16 3x3 - FC 10",
            "net:2:13: expected a convolution as in CONV 16 5x5 stride 1 pad 2, got '-': write > between",
        ),
    ],
)
def test_text_is_refused_with_its_place(text, said):
    assert message(text).startswith(said)


@pytest.mark.parametrize(
    "remark", ["params: 35K", "params: (11*11*3)*96 = 35K", "Parameters: 34.8K", "memory: 1"]
)
def test_rounded_remarks_pass(remark):
    """34,848 weights."""
    notation.parse(f"INPUT 227x227x3\nCONV1: 96 11x11 stride 4 {remark}")


def test_rounded_remark_that_is_far_off():
    assert "got 45K" in message("INPUT 227x227x3\nCONV1: 96 11x11 stride 4 params: 45K")


def test_one_number_too_many_has_the_comma_in_its_remedy_only_where_there_is_one():
    assert message("INPUT 8x8x3\nFC 3 5") == "net:2:6: expected one number, got 3 and 5: leave one out"
    assert message("INPUT 8x8x3\nFC 4,096").endswith(": leave one out, and write 4096, not 4,096")


# ------------------------------------------------------------------------- lines of slides that are no layers

WRAPPED = """Full (simplified) AlexNet architecture:
Input: 227 x 227 x 3 images
    memory: 227*227*3=155K params: 0
CONV1: 96 11 x 11 filters applied at stride 4
{}
MAX POOL1: 3x3 filters at stride 2
SOFTMAX 10
"""


@pytest.mark.parametrize(
    "lines",
    [
        "Output: 55 x 55 x 96 Parameters: 35K",
        "**Output:** 55x55x96",
        "Output volume [55x55x96]",
        "OUTPUT VOLUME: 55x55x96\nParameters: (11*11*3)*96 = 35K",
        "memory: 55*55*96=290K params: 34,848",
        "memory: 290K\n\nparams: 34,848  # once\nparams: 35K",
        "=> Output volume [55x55x96]",
    ],
)
def test_lines_that_speak_of_the_layer_above(lines):
    plain = "INPUT 227x227x3\nCONV1: 96 11x11 stride 4\nMAX POOL1: 3x3 stride 2\nSOFTMAX 10"
    assert notation.parse(WRAPPED.format(lines)) == notation.parse(plain)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("Output: 54x54x96", "net:5:9: expected the volume [55x55x96] from (227 - 11)/4 + 1 = 55, got [54x"),
        ("Output volume [96x55x55]", "net:5:15: expected the volume [55x55x96] from"),
        ("Output: 55x55x96 Parameters: 45K", "net:5:30: expected params: (11*11*3)*96 = 34,848 without"),
        ("Output: 55x55x96\nOutput: 55x55x69", "net:6:9: expected the volume [55x55x96] from"),
        ("memory: 290K\nparams: 34,944", "net:6:9: expected params: (11*11*3)*96 = 34,848 without biases"),
        ("params: 35K\nparams: 34,849", "net:6:9: expected params: (11*11*3)*96 = 34,848 without biases"),
        ("Output: 55x96", "net:5:9: expected height x width x channels as the output, got '55x96': correct"),
        ("Output volume: 96", "net:5:1: expected a layer, got 'Output'"),
        ("Output volume: what is it?", "net:5:1: expected a layer, got 'Output'"),
        ("Second layer:", "net:5:1: expected a layer, got 'Second'"),
    ],
)
def test_lines_that_speak_of_the_layer_above_are_checked(lines, said):
    assert message(WRAPPED.format(lines)).startswith(said)


def test_lines_that_speak_of_the_scores():
    end = "Output: [10] params: 40"
    assert notation.parse(f"INPUT 1x1x4\nSOFTMAX 10\n{end}").layers == (
        FullyConnected(label="fc1", units=10),
    )
    assert notation.parse("INPUT 1x1x4\nFC 10 params: 40\nSOFTMAX\nOutput: [10] params: 0").num_classes == 10
    said = message("INPUT 1x1x4\nFC 10\nSOFTMAX\nparams: 40")
    assert said.startswith("net:4:9: expected params: 0 for SOFTMAX, which has no weights, got 40")
    assert message("INPUT 1x1x4\nSOFTMAX 10\nparams: 50").startswith(
        "net:3:9: expected params: 1*1*4*10 = 40"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("params: 0", "net:1:1: expected a layer before its remarks, got none: write INPUT 32x32x3 first"),
        ("Output: 3x3x3", "net:1:9: expected a layer above its output, got nothing: leave the output out"),
        ("INPUT 8x8x3\nOutput: 8x8x3", "net:2:9: expected a layer above its output, got INPUT: leave"),
        (
            "INPUT 8x8x3\nparams: 3\nFC 3",
            "net:2:9: expected params: 0 for INPUT, which has no weights, got 3",
        ),
        (
            "INPUT 8x8x3 params: 3\nFC 3",
            "net:1:21: expected params: 0 for INPUT, which has no weights, got 3",
        ),
    ],
)
def test_lines_without_a_layer_above_are_refused(text, said):
    assert message(text).startswith(said)


def test_a_layer_labelled_output_is_a_layer():
    layers = notation.parse("INPUT 4x4x3\nFC 3\nRELU\nOutput: FC 10").layers
    assert layers[-1] == FullyConnected(label="Output", units=10)
    drawn = notation.parse("INPUT 4x4x3\nOutput: 3x3 conv, 64").layers[0]
    assert drawn == Conv(label="Output", filters=64, kernel=(3, 3), padding=(1, 1))


@pytest.mark.parametrize(
    "heading",
    ["Architecture:", "Full (simplified) AlexNet architecture:", "VGG-16, as on the slide:", "LeNet5:"],
)
def test_heading_before_input_is_passed_over(heading):
    text = "INPUT 4x4x3\nFC 3"
    assert notation.parse(f"{heading}\n\n{text}") == notation.parse(text)


@pytest.mark.parametrize(
    "line",
    [
        *("CONV1:", "Max pooling:", "RELU:", "dropout 0.5:", "CONVV 16 3x3:", "CONVV 16:", "[3x3x3] CONVV:"),
        *("Input:", "Output:", "A > B:", "a heading", "x" * 101 + ":", ":"),
    ],
)
def test_no_layer_is_taken_for_a_heading(line):
    message(f"{line}\nINPUT 4x4x3\nFC 3")


@pytest.mark.parametrize("line", ["Architecture:", "CONVV:", "C1:"])
def test_no_heading_stands_behind_input(line):
    assert message(f"INPUT 4x4x3\n{line}\nFC 3").startswith("net:2:1: expected a layer, got")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "CONV 2 3x3 stride 3",
            "net:2:1: (7 - 3)/3 + 1 = 2.33: a 3x3 filter at stride 3 doesn't fit a 7x7 input:"
            " use stride 2 (size 3x3) or pad 1 (size 3x3), or write floor (size 2x2) at the end of the line",
        ),
        (
            "MAX POOL 3x3 stride 3",
            "net:2:1: (7 - 3)/3 + 1 = 2.33: a 3x3 pool at stride 3 doesn't fit a 7x7 input: use stride 2"
            " (size 3x3) or pad 1 (size 3x3), or write floor (size 2x2) or ceil (size 3x3) at the end",
        ),
        (
            "CONV 2 2x2 stride 2",  # no pad helps: 7 + 2P - 2 is odd
            "net:2:1: (7 - 2)/2 + 1 = 3.50: a 2x2 filter at stride 2 doesn't fit a 7x7 input: use stride 1"
            " (size 6x6), or write floor (size 3x3) at the end of the line",
        ),
        (
            "CONV 2 8x8",
            "net:2:1: expected an 8x8 window that fits the input, got a height of 7 px with its padding,"
            " and 7 - 8 is below 0:",
        ),
    ],
)
def test_windows_that_do_not_fit(line, said):
    assert message(f"INPUT 7x7x3\n{line}").startswith(said)


def test_the_224_px_of_the_paper_do_not_fit():
    said = message("INPUT 224x224x3\nCONV1: 96 11x11 filters at stride 4, pad 0")
    assert said.startswith(
        "net:2:1: (224 - 11)/4 + 1 = 54.25: an 11x11 filter at stride 4 doesn't fit a 224x224"
    )


def test_long_strides_do_not_round_the_remainder_away():
    assert "(2001 - 1000)/1000 + 1 = 2.001:" in message("INPUT 2001x2001x3\nPOOL 1000x1000 stride 1000")


def test_axis_that_does_not_fit_is_the_one_shown():
    assert "(8 + 2*1 - 3)/2 + 1 = 4.50: a 3x3 filter" in message("INPUT 7x8x3\nCONV 2 3x3 stride 2 pad 1")


def test_rounding_that_is_written_passes():
    pool = "POOL 3x3 stride 3"
    assert notation.parse(f"INPUT 7x7x3\n{pool} floor").volumes == ((3, 2, 2),)
    assert notation.parse(f"INPUT 7x7x3\n{pool} ceil").volumes == ((3, 3, 3),)
    assert notation.parse("INPUT 7x7x3\nACTIVATION NONE\nCONV 2 3x3 stride 3 floor").volumes == ((2, 2, 2),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("INPUT 8x8x3\n" + "RELU\n" * 1001, "net:1001:1: expected at most 1,000 layers, got 1,001"),
        ("INPUT 8x8x3\n" + "CONV 3 1x1\n" * 600, "net:601:1: expected at most 1,000 layers, got 1,200"),
        ("x" * 100_001, "net:1:1: expected a text of at most 100,000 characters, got 100,001"),
        (
            "INPUT 1000x1000x100\nFC 1000",
            "net:2:1: expected at most 10,000,000,000 parameters in all, got 100,000,001,000",
        ),
        (
            "INPUT 9x9x1\nCONV 1 1x1 pad 50000",
            "net:2:1: expected a height of at most 100,000 px, got 100,009",
        ),
        ("INPUT 9x100001x1\nFC 1", "net:1:1: expected an input of three sizes"),
    ],
)
def test_limits(text, said):
    assert message(text).startswith(said)
