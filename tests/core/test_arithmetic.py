import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from striate.core.arithmetic import output_size
from striate.core.errors import InputSizeError


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad", "expected", "lost"),
    [
        (227, 11, 4, 0, 55, 0),  # AlexNet conv1 as lectured
        (224, 11, 4, 0, 54, 1),  # the paper's 224: 54.25, "doesn't fit"
        (7, 3, 3, 0, 2, 1),  # the lectures' (7 - 3)/3 + 1 = 2.33
        (32, 5, 1, 2, 32, 0),
        (4, 3, 1, 0, 2, 0),
        (5, 3, 2, 1, 3, 0),
        (7, 3, 2, 0, 3, 0),
    ],
)
def test_lecture_examples(size, kernel, stride, pad, expected, lost):
    found = output_size(size, kernel, stride=stride, padding=pad)
    assert (found.size, found.lost_px, found.fits) == (expected, lost, lost == 0)


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 5), st.integers(0, 3), st.integers(1, 3))
def test_agrees_with_torch_convolution(size, kernel, stride, pad, dilation):
    image, weight = torch.zeros(1, 1, size, 1), torch.zeros(1, 1, kernel, 1)
    if dilation * (kernel - 1) + 1 > size + 2 * pad:
        with pytest.raises(InputSizeError, match="expected an input of at least"):
            output_size(size, kernel, stride=stride, padding=pad, dilation=dilation)
        return
    expected = F.conv2d(image, weight, stride=(stride, 1), padding=(pad, 0), dilation=(dilation, 1)).shape[2]
    assert output_size(size, kernel, stride=stride, padding=pad, dilation=dilation).size == expected


@given(st.integers(2, 60), st.integers(2, 7), st.integers(1, 9), st.booleans())
def test_ceil_mode_agrees_with_torch_pooling(size, kernel, stride, padded):
    pad = kernel // 2 if padded else 0
    if kernel > size + 2 * pad:
        return
    expected = F.max_pool1d(torch.zeros(1, 1, size), kernel, stride, pad, ceil_mode=True).shape[2]
    assert output_size(size, kernel, stride=stride, padding=pad, ceil_mode=True).size == expected


def test_ceil_mode_reports_what_a_dropped_window_would_have_read():
    # 4 px, window 1, stride 3, padding 0 covers px 0 and 3; with 5 px the third window would start at 6,
    # outside.
    assert output_size(5, 1, stride=3, ceil_mode=True).size == 2
