import math

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from striate.core.finite import first_non_finite

SHAPES = [(), (3,), (1000, 17), (8, 5, 3, 3), (2, 1, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_one_bad_number_at_any_place_is_found(shape, bad, dtype):
    good = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    for layout in (good, good.to(memory_format=torch.channels_last)) if len(shape) == 4 else (good,):
        assert first_non_finite({"w": layout}) is None
        for place in {0, good.numel() // 2, good.numel() - 1}:
            tensor = layout.clone()
            tensor[torch.unravel_index(torch.tensor(place), shape)] = bad
            assert first_non_finite({"first": layout, "w": tensor, "later": tensor}) == "w"


def test_large_finite_numbers_pass_though_their_sum_overflows():
    largest = torch.finfo(torch.float32).max
    assert first_non_finite({"w": torch.full((100,), largest), "v": torch.full((9,), -largest)}) is None


def test_whole_numbers_empty_tensors_and_views_pass():
    steps = torch.tensor(2**40)
    every_second = torch.arange(12.0).reshape(3, 4)[:, ::2]
    state = {
        "num_batches_tracked": steps,
        "empty": torch.zeros(0, 3),
        "view": every_second,
        "none": torch.zeros(0),
    }
    assert first_non_finite(state) is None
    bad = torch.zeros(3, 4)
    bad[1, 2] = math.nan
    assert first_non_finite({"view": bad[:, ::2]}) == "view"
    assert first_non_finite({"view": bad[:, 1::2]}) is None


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_nothing_of_the_tensors_size_is_made(memory_format):
    weights = torch.zeros(64, 32, 3, 3).to(memory_format=memory_format)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        first_non_finite({"conv": weights})
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    made = [event.nbytes() for event in events if event.nbytes() > 0]
    assert made  # the profiler saw the two scalars
    assert sum(made) < 1000 < weights.nbytes // 50
