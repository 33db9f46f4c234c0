"""Training memory: by hand on small networks, by torch's own record of allocations, and inside ``fit``."""

import copy
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from striate.anatomy import trace
from striate.anatomy.training_memory import largest_batch, parse_bytes, training_memory
from striate.core.compute import has_bf16
from striate.core.errors import InputSizeError, UsageError
from striate.data.batches import Loader
from striate.data.dataset import colour_statistics, fit_preprocessing, for_network, open_dataset
from striate.data.sources import open_source
from striate.nets import build
from striate.recipes.recipe import Recipe
from striate.training.loop import Trainer, Training
from striate.training.loss import make_loss
from striate.weights.run_folder import create_run

GIVEN = {"sgd": {"momentum": 0.9}, "nesterov": {"momentum": 0.9, "nesterov": True}, "adamw": {}}


class Branches(nn.Module):
    """A net of a user's own: functional calls, a module used twice, a shortcut, a concatenation, dropout."""

    input_shape = (3, 24, 24)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.twice = nn.Conv2d(12, 12, 3, padding=1, groups=3)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(24, 7)
        self.last_seen: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(self.norm(self.stem(images)))
        maps = maps + functional.relu(self.twice(maps))
        maps = self.twice(maps).tanh()
        self.last_seen = maps
        joined = torch.cat((maps, functional.max_pool2d(maps, 3, 1, 1)), 1)
        return self.fc(functional.dropout(joined.mean((2, 3)), 0.3, self.training))


class TwoHeads(nn.Module):
    """Scores and auxiliary scores."""

    auxiliary_weight = 0.3
    input_shape = (3, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten())
        self.main, self.aux = nn.Linear(8 * 14 * 14, 10), nn.Linear(8 * 14 * 14, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(images)
        return self.main(features), self.aux(features)


def allocated_peak(recorded: profile) -> int:
    """Largest sum of what torch's allocator had given out, by the profiler's record."""
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    sums = np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
    return int(sums.max(initial=0))


def measured(make, batch: int, precision: str, optimizer: str) -> int:
    """Peak of two real steps in the order of ``fit.loop``."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        net = make().to(memory_format=torch.channels_last).train()
        kind = torch.optim.AdamW if optimizer == "adamw" else torch.optim.SGD
        rule = kind(net.parameters(), lr=1e-3, fused=True, **GIVEN[optimizer])
        images = torch.randn(batch, *net.input_shape).to(memory_format=torch.channels_last)
        labels = torch.zeros(batch, dtype=torch.int64)
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                outputs = net(images)
            heads = [outputs] if isinstance(outputs, Tensor) else list(outputs)
            loss = torch.stack([functional.cross_entropy(head.float(), labels) for head in heads]).sum()
            del outputs, heads
            loss.backward()
            rule.step()
            rule.zero_grad(set_to_none=True)
    return allocated_peak(recorded)


CASES = {
    "lenet5_modern": (lambda: build("lenet5_modern"), 32, "fp32", "sgd"),
    "lenet5": (lambda: build("lenet5"), 32, "fp32", "sgd"),
    "resnet20": (lambda: build("resnet20"), 8, "fp32", "nesterov"),
    "resnet20 bf16": (lambda: build("resnet20"), 8, "bf16", "adamw"),
    "nin_cifar10": (lambda: build("nin_cifar10"), 2, "fp32", "sgd"),
    "vgg11": (lambda: build("vgg11", num_classes=10, input_px=32), 2, "bf16", "sgd"),
    "inception": (lambda: build("inception_bottleneck"), 2, "fp32", "adamw"),
    "resnet50": (lambda: build("resnet50", input_px=64), 2, "fp32", "sgd"),
    "branches": (Branches, 16, "fp32", "sgd"),
    "branches bf16": (Branches, 16, "bf16", "adamw"),
    "two heads": (TwoHeads, 16, "fp32", "sgd"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_prediction_is_what_torch_allocates(case: str) -> None:
    make, batch, precision, optimizer = CASES[case]
    if precision == "bf16" and not has_bf16(torch.device("cpu")):
        pytest.skip("elsewhere torch computes bf16 by way of float32 copies")
    predicted = training_memory(make(), batch_images=batch, precision=precision, optimizer=optimizer)
    assert predicted.peak == pytest.approx(measured(make, batch, precision, optimizer), rel=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("name", "batch", "precision"), [("resnet20", 256, "fp32"), ("resnet50", 32, "bf16")]
)
def test_the_prediction_is_what_a_gpu_allocates(name: str, batch: int, precision: str) -> None:
    predicted = training_memory(build(name), batch_images=batch, precision=precision)
    net = build(name).cuda().to(memory_format=torch.channels_last).train()
    rule = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, fused=True)
    images = torch.randn(batch, *net.input_shape, device="cuda").to(memory_format=torch.channels_last)
    labels = torch.zeros(batch, dtype=torch.int64, device="cuda")
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            scores = net(images)
        loss = functional.cross_entropy(scores.float(), labels)
        del scores
        loss.backward()
        rule.step()
        rule.zero_grad(set_to_none=True)
    assert predicted.peak == pytest.approx(torch.cuda.max_memory_allocated(), rel=0.10)


def test_the_prediction_is_what_fit_allocates(tmp_path) -> None:
    """Holds ``fit.loop`` to the order that is predicted: no gradients are there in the forward pass."""
    rng = np.random.default_rng(1409)
    for number in range(128):
        path = tmp_path / "noise" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(path)
    source = open_source(tmp_path / "noise")
    canvas = fit_preprocessing(source, (1, 8, 8), canvas_px=None)
    dataset = open_dataset(source, canvas, val_fraction=0.0, test_fraction=0.0)
    members = dataset.splits.train
    recipe = Recipe(
        name="x", epochs=2, batch_images=64, lr=0.01, val_fraction=0.0, test_fraction=0.0, select="last"
    )
    recorded = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    training = {
        "train": Loader(
            dataset=dataset,
            indices=members,
            preprocessing=for_network(canvas, (1, 8, 8)),
            batch_images=64,
            threads=0,
        ),
        "val": None,
        "colours": colour_statistics(dataset, members),
        "recipe": recipe,
        "loss": make_loss(recipe, source.labels[members], 2, torch.device("cpu")),
        "run": create_run(tmp_path / "run", {}),
        "save": lambda *_: recorded.stop(),  # before the last checkpoint is written
        "key": "x",
        "seed": 0,
        "device": torch.device("cpu"),
        "precision": "fp32",
    }
    recorded.start()
    # Large matrices first, large maps last: gradients kept from the step before would be a fifth of the peak.
    matrices = [nn.Flatten(), nn.Linear(64, 2000), nn.ReLU(), nn.Linear(2000, 64), nn.Unflatten(1, (1, 8, 8))]
    maps = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2048, 2)]
    net = nn.Sequential(*matrices, *maps)
    Trainer(Training(net=net, **training)).run()
    predicted = training_memory(net, (1, 8, 8), batch_images=64)
    assert predicted.peak == pytest.approx(allocated_peak(recorded), rel=0.02)
    assert predicted.gradients < 0.1 * predicted.parameters


def test_by_hand_a_linear_layer() -> None:
    """10 inputs, 5 scores, 4 images; each storage rounded up to 64 bytes."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(10, 5))
    weights = 256 + 64  # 5 x 10 and 5 values of 4 bytes: 200 and 20
    memory = training_memory(net, (1, 2, 5), batch_images=4)
    assert memory.parameters == memory.gradients == memory.optimizer_state == weights
    assert memory.batch == 192 + 64  # 4 x 10 x 4 bytes; 4 labels of 8 bytes
    assert memory.buffers == 0
    moments = training_memory(net, (1, 2, 5), batch_images=4, optimizer="adamw").optimizer_state
    assert moments == 2 * weights + 2 * 64  # and for each parameter a count of steps


def test_by_hand_what_is_kept_for_the_backward_pass() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)
    )
    images = 16
    rectified = images * 8 * 8 * 8 * 4  # the ReLU's output; the convolution's own is not needed
    places = images * 8 * 4 * 4 * 8  # of the maxima, 64-bit
    flat = images * 128 * 4  # what the fully connected layer reads
    scores = images * 10 * 4  # their log softmax
    kept = training_memory(net, (3, 8, 8), batch_images=images).kept_activations
    assert rectified + places + flat + scores <= kept <= rectified + places + flat + scores + 256  # scalars


def test_batch_normalisation_has_buffers() -> None:
    net = nn.Sequential(nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32), nn.Flatten(), nn.Linear(32 * 36, 4))
    assert training_memory(net, (1, 8, 8), batch_images=2).buffers == 128 + 128 + 64  # mean, variance, count


def test_frozen_parameters_have_no_gradients() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 16, bias=False))
    net[0].requires_grad_(False)
    memory = training_memory(net, (1, 8, 8), batch_images=2)
    fully_connected = 16 * 4 * 36 * 4
    assert memory.gradients == memory.optimizer_state == fully_connected
    assert memory.parameters == fully_connected + 192 + 64  # 4 x 9 values, 4 biases


def test_the_parts_add_up() -> None:
    memory = training_memory(build("resnet20"), batch_images=4)
    assert memory.peak == sum(memory.parts.values())
    assert memory.activations <= memory.kept_activations
    assert len(memory.parts) == 7


@pytest.mark.parametrize("make", [lambda: build("lenet5_modern"), lambda: build("resnet20"), Branches])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_peak_is_in_a_row_of_the_table(make, precision: str) -> None:
    net = make()
    memory = training_memory(net, batch_images=64, precision=precision)
    assert memory.peak_row in {"loss", *(layer.name for layer in trace(net))}


def test_the_peak_of_a_wide_middle_is_in_the_backward_pass() -> None:
    """The gradient of the widest volume comes while that volume is still there."""
    net = nn.Sequential()
    net.narrow = nn.Conv2d(1, 1, 3, padding=1)
    net.wide = nn.Conv2d(1, 200, 3, padding=1)
    net.relu = nn.ReLU()
    net.pool = nn.AvgPool2d(32)
    net.flatten = nn.Flatten()
    net.fc = nn.Linear(200, 2)
    memory = training_memory(net, (1, 32, 32), batch_images=8)
    wide = 8 * 200 * 32 * 32 * 4
    # What the ReLU keeps, the gradient that came from the pool, the gradient that it gives. The pool, just
    # before, has its gradient twice: channels last, as its images are, and as the fully connected layer's is.
    assert memory.peak == pytest.approx(3 * wide, rel=0.02)
    assert memory.peak_phase == "backward"
    assert memory.peak_row in ("pool", "relu")


def test_no_weights_are_allocated() -> None:
    with torch.device("meta"):
        net = build("vgg16")
    training_memory(build("lenet5_modern"), batch_images=2)  # what torch imports on first use
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        memory = training_memory(net, batch_images=64)
    assert memory.parameters >= 138_357_544 * 4
    assert allocated_peak(recorded) < 2**20


def test_the_network_is_left_as_it_was() -> None:
    net = Branches().eval()
    net.norm.train()
    before = copy.deepcopy(net.state_dict())
    names = {name: (id(parameter), parameter.device) for name, parameter in net.named_parameters()}
    torch.manual_seed(3)
    seed = torch.get_rng_state()
    training_memory(net, batch_images=4, precision="bf16")
    assert torch.equal(torch.get_rng_state(), seed)
    assert [module.training for module in net.modules()] == [False, False, True, False, False, False]
    assert {name: (id(parameter), parameter.device) for name, parameter in net.named_parameters()} == names
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert net.last_seen is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_the_largest_batch_of_a_linear_layer_by_hand() -> None:
    """Images of 64 bytes and labels of 8; weights that dwarf the rest of the step."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(1024, 8, bias=False))
    weights = 3 * 1024 * 8 * 4
    # An image costs its 4,096 bytes, its label of 8, and two to four rows of 8 scores of 32 bytes.
    found = largest_batch(net, (1, 32, 32), budget_bytes=weights + 10_000_000)
    assert 10_000_000 // (4096 + 8 + 4 * 32) - 2 <= found <= 10_000_000 // (4096 + 8 + 2 * 32) + 2


@pytest.mark.parametrize("budget", [40_000_000, 123_456_789])
@pytest.mark.parametrize("name", ["lenet5_modern", "resnet20"])
def test_one_more_image_does_not_fit(name: str, budget: int) -> None:
    net = build(name)
    found = largest_batch(net, budget_bytes=budget, precision="bf16", optimizer="adamw")
    peaks = [
        training_memory(net, batch_images=batch, precision="bf16", optimizer="adamw").peak
        for batch in (found, found + 1)
    ]
    assert peaks[0] <= budget < peaks[1]


def test_small_budgets() -> None:
    net = build("lenet5_modern")
    one = training_memory(net, batch_images=1).peak
    assert largest_batch(net, budget_bytes=one) == 1
    assert largest_batch(net, budget_bytes=one - 1) == 0
    normed = nn.Sequential(nn.Conv2d(1, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    assert largest_batch(normed, (1, 8, 8), budget_bytes=100) == 0  # a batch of one can't be normalised
    with pytest.raises(UsageError, match="above 0 bytes, got 0"):
        largest_batch(net, budget_bytes=0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8GB", 8_000_000_000),
        ("8 GiB", 8_589_934_592),
        ("1.5mb", 1_500_000),
        ("2KiB", 2048),
        ("1TB", 10**12),
        ("12B", 12),
    ],
)
def test_amounts_of_memory(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["8", "GB", "0GB", "-1GB", "8XB", "8Gi", "1,5GB", "٣GB", ""])
def test_no_amount_of_memory(text: str) -> None:
    with pytest.raises(UsageError, match="such as 8GB, 500MB or 7.5GiB, got " + re.escape(repr(text))):
        parse_bytes(text)


class ReadsValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        return maps.flatten(1) if float(maps.sum()) > 0 else -maps.flatten(1)


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        (nn.Flatten(), {"input_shape": (1, 4, 4)}, "with trainable parameters, got Flatten without any"),
        (nn.Conv2d(1, 2, 3), {}, "expected the size of the input, got none"),
        (nn.Conv2d(1, 2, 3), {"input_shape": (4, 4)}, "channels, height and width, got \\(4, 4\\)"),
        (nn.Conv2d(1, 2, 3), {"input_shape": (1, 2, 2)}, "can't be trained on shapes alone .* at 1x2x2: "),
        (ReadsValues(), {"input_shape": (1, 8, 8)}, "ReadsValues can't be trained on shapes alone"),
        (nn.Linear(4, 2), {"input_shape": (1, 4, 4), "batch_images": 0}, "at least 1 image, got 0"),
        (nn.Linear(4, 2), {"input_shape": (1, 4, 4), "precision": "fp16"}, "out of fp32, bf16; got 'fp16'"),
        (nn.Linear(4, 2), {"input_shape": (1, 4, 4), "optimizer": "adam"}, "adamw; got 'adam'"),
    ],
)
def test_refusals(net: nn.Module, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        training_memory(net, **{"batch_images": 2, **options})
    assert "\n" not in str(caught.value)


def test_a_size_that_the_network_does_not_take() -> None:
    with pytest.raises(InputSizeError, match="expects images of 3x32x32"):
        training_memory(build("resnet20"), (3, 30, 30), batch_images=2)


def test_no_scores_to_train_on() -> None:
    class Detached(nn.Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).detach()

    with pytest.raises(UsageError, match="returns scores, N x K, to train on; got none from Detached"):
        training_memory(Detached(4, 2), (1, 4, 4), batch_images=2)
