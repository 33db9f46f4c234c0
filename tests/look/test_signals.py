"""Backward rules against cases by hand, Jacobians, backward hooks on modules, and Captum."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import _get_current_function_mode_stack

from striate.core.errors import UsageError
from striate.look.signals import project, project_units, recorded
from striate.nets import build
from striate.nets.modules import LocalResponseNorm


def on_4x4():
    """A 1x1 convolution with weights 1 and -1, ReLU, overlapping 3/1 max pool, and a 2x2 convolution."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 1), nn.Conv2d(2, 1, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        net[0].bias.zero_()
        net[3].weight.copy_(torch.tensor([[[1.0, 2.0], [3.0, -4.0]], [[2.0, -1.0], [1.0, 1.0]]])[None])
        net[3].bias.fill_(0.5)
    return net


IMAGE = torch.tensor([[1.0, 2, 0, -1], [2, 5, 5, 0], [0, 1, 0, 7], [-4, 0, 2, -2]])[None, None]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # Map 0: both left windows tie at two fives and choose the first, (1, 1), where 1 and 3 meet; the
        # right ones meet at the 7 with 2 - 4 < 0. Map 1: the first window sees zeros only, so that its switch
        # is the first place, where the input of the ReLU is -1. The deconvnet lets 2 pass there; the others
        # don't.
        ("deconvnet", {(1, 1): 46.0, (0, 0): -23.0, (3, 0): -11.5, (3, 3): -11.5}),
        ("gradient", {(1, 1): 4.0, (2, 3): -2.0, (0, 3): 1.0, (3, 0): -1.0, (3, 3): -1.0}),
        ("guided", {(1, 1): 4.0, (3, 0): -1.0, (3, 3): -1.0}),
    ],
)
def test_by_hand(rule, expected):
    found = project(on_4x4(), IMAGE, "3", channel=0, rule=rule)
    maps = torch.zeros(4, 4)
    for place, value in expected.items():
        maps[place] = value
    assert found.values.tolist() == [11.5]
    assert found.places == ((0, 0),)
    torch.testing.assert_close(found.maps[0, 0], maps)
    assert len(found.extensions) == (rule != "gradient")  # the overlap


def test_without_relus_it_is_the_vector_jacobian_product():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.MaxPool2d(3, 2), nn.Conv2d(4, 5, 3, padding=1, groups=1)
    )
    images = torch.randn(2, 3, 21, 23)
    found = project(net, images, "2", channel=3, rule="deconvnet")
    start = torch.zeros_like(net(images))
    for number, (row, column) in enumerate(found.places):
        start[number, 3, row, column] = found.values[number]
    _, expected = torch.autograd.functional.vjp(net, images, start)
    torch.testing.assert_close(found.maps, expected)
    assert found.values == pytest.approx(net(images)[:, 3].flatten(1).amax(1).tolist())


def by_hooks(net, images, layer, channel, rule):
    """An independent second version: backward hooks on the ReLU modules, and on LRN."""
    handles, kept = [], {}

    def hook(module, grad_input, grad_output):
        return ((grad_output if rule == "deconvnet" else grad_input)[0].clamp(min=0),)

    for module in net.modules():
        if isinstance(module, nn.ReLU):
            handles.append(module.register_full_backward_hook(hook))
        elif isinstance(module, LocalResponseNorm):
            handles.append(module.register_full_backward_hook(lambda module, below, above: above))
    target = net.get_submodule(layer)
    handles.append(target.register_forward_hook(lambda module, inputs, output: kept.update(out=output)))
    pixels = images.clone().requires_grad_(True)
    net(pixels)
    out = kept["out"]
    start = torch.zeros_like(out)
    for number in range(len(images)):
        flat = out[number, channel].flatten()
        start[number, channel].view(-1)[flat.argmax()] = flat.max() if rule == "deconvnet" else 1.0
    (maps,) = torch.autograd.grad(out, pixels, start.detach())
    for handle in handles:
        handle.remove()
    return maps


NETS = [
    ("lenet5_modern", {}, "C3", 3),
    ("lenet5_modern", {}, "output", 7),
    ("alexnet", {}, "conv4", 11),
    ("vgg16", {"input_px": 32}, "relu4_2", 5),
    ("resnet20", {}, "", 2),
    ("resnet20", {}, "", 9),
]


@pytest.mark.parametrize("rule", ["deconvnet", "guided"])
@pytest.mark.parametrize(("name", "arguments", "layer", "channel"), NETS)
def test_agrees_with_hooks_on_modules(name, arguments, layer, channel, rule):
    net = build(name, **arguments).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.weight)
    images = torch.randn(2, *net.input_shape)
    layer = layer or [path for path, module in net.named_modules() if type(module) is nn.ReLU][channel]
    expected = by_hooks(net, images, layer, channel, rule)
    found = project(net, images, layer, channel=channel, rule=rule)
    assert expected.abs().max() > 0
    torch.testing.assert_close(found.maps, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


class Own(nn.Module):
    """The same network with its ReLUs written in several ways."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 4, 3)
        self.relu = nn.ReLU()
        self.inplace = nn.ReLU(inplace=True)
        self.bn = nn.BatchNorm2d(6)

    def active(self, x):
        match self.how:
            case "reused":
                return self.relu(x)
            case "module in place":
                return self.inplace(x)
            case "functional":
                return functional.relu(x)
            case "functional in place":
                return functional.relu(x, inplace=True)
            case "relu_":
                torch.relu_(x)
                return x
            case "method":
                return x.relu()
            case "on a view":
                x.flatten(1).relu_()
                return x
            case "clamp":
                return x.clamp(min=0)
            case "clamp_":
                return x.clamp_(0)
            case "clamp_min":
                return torch.clamp_min(x, 0.0)

    def forward(self, x):
        x = self.active(self.bn(self.conv1(x)))
        branch = self.active(self.conv2(x))
        x = branch + x[:, :, 1:-1, 1:-1]
        return self.active(self.conv3(functional.max_pool2d(x, 2)))


WAYS = [
    *("module in place", "functional", "functional in place", "relu_", "method", "on a view"),
    *("clamp", "clamp_", "clamp_min"),
]


@pytest.mark.parametrize("rule", ["deconvnet", "guided", "gradient"])
@pytest.mark.parametrize("how", WAYS)
def test_ways_to_write_a_relu(how, rule):
    net, other = Own("reused").eval(), Own(how).eval()
    other.load_state_dict(net.state_dict())
    images = torch.randn(2, 3, 16, 16)
    for layer, channel in ((None, 1), ("conv3", 2), ("conv2", 3)):
        expected = project(net, images, layer, channel=channel, rule=rule)
        found = project(other, images, layer, channel=channel, rule=rule)
        assert expected.maps.abs().max() > 0
        torch.testing.assert_close(found.maps, expected.maps)
        torch.testing.assert_close(found.values, expected.values)
        assert found.places == expected.places
        assert found.extensions == expected.extensions


def test_a_convolution_is_kept_before_its_relu_in_place():
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(inplace=True)).eval()
    with torch.no_grad():
        net[0].weight.fill_(-1.0)
        net[0].bias.zero_()
    found = project(net, torch.ones(1, 1, 3, 3), "0", channel=0)
    assert found.values.tolist() == [-1.0]
    assert found.maps[0, 0, 0, 0] == 1.0  # the value times the weight


class Custom(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, signal):
        return signal


def softly(x):
    return x.flatten(2).softmax(2).view_as(x)


def masked(x):
    x = x.clone()
    x[x < 0] = 0
    return x


STEPS = {
    "Gelu": functional.gelu,
    "Silu": functional.silu,
    "Hardtanh": functional.relu6,
    "Hardswish": functional.hardswish,
    "Threshold": lambda x: functional.threshold(x, 0, 0),
    "Maximum": lambda x: torch.maximum(x, torch.zeros(())),
    "Clamp": lambda x: x.clamp(0, 1),
    "Clamp ": lambda x: x.clamp(min=0.5),
    "Where": lambda x: torch.where(x > 0, x, torch.zeros(())),
    "IndexPut": masked,
    "Abs": lambda x: (x + x.abs()) / 2,
    "Custom": Custom.apply,
    "Softmax": softly,
    "Pow": lambda x: x**2,
    "Mul": lambda x: functional.dropout(x, training=True),
    "a product of activations": lambda x: x * (x > 0),
    "a product of activations ": lambda x: x * torch.sigmoid(x),
    "a product of activations  ": lambda x: x / x.detach().abs().amax((1, 2, 3), keepdim=True),
    "a product of activations    ": lambda x: x / x.detach().abs().max().item(),
    "a product of activations   ": lambda x: torch.matmul(x, x.transpose(2, 3)),
    "NativeLayerNorm": lambda x: functional.layer_norm(x, x.shape[1:]),
    "NativeGroupNorm": lambda x: functional.group_norm(x, 2),
    "the image's own statistics": functional.instance_norm,
}


class WithStep(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.conv1, self.conv2, self.step = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), step

    def forward(self, x):
        return self.conv2(self.step(self.conv1(x)))


@pytest.mark.parametrize("rule", ["deconvnet", "guided"])
@pytest.mark.parametrize("name", STEPS)
def test_what_no_rule_covers_is_refused_by_name(name, rule):
    net = WithStep(STEPS[name])
    images = torch.randn(2, 3, 8, 8)
    with pytest.raises(UsageError, match=f"got .*{name.strip()}"):
        project(net, images, "conv2", channel=0, rule=rule)
    # the layer below does not meet it, and the gradient needs no rule
    assert project(net, images, "conv1", channel=0, rule=rule).maps.abs().max() > 0
    assert project(net, images, "conv2", channel=0, rule="gradient").maps.abs().max() > 0


ALLOWED = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "leaky ReLU": lambda x: functional.leaky_relu(x, 0.1),
    "ELU": functional.elu,
    "batch normalisation": nn.BatchNorm2d(4).eval(),
    "addition": lambda x: x + x.flip(3),
    "concatenation": lambda x: torch.cat(x.chunk(2, 1), 1),
    "average pooling": lambda x: functional.avg_pool2d(x, 2),
    "product with a constant": lambda x: 2 * x / 3,
    "product with a constant ": lambda x: torch.full((4, 1, 1), 2.0) * x,
    "upsampling": lambda x: functional.interpolate(x, scale_factor=2.0),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_extensions_are_named_and_linear_ones_are_derivatives(name):
    net = WithStep(ALLOWED[name]).eval()
    images = torch.randn(2, 3, 8, 8)
    found = project(net, images, "conv2", channel=1, rule="deconvnet")
    assert [label.partition(" (")[0] for label in found.extensions] == [name.strip()]
    slope = project(net, images, "conv2", channel=1, rule="gradient")
    assert slope.extensions == ()
    torch.testing.assert_close(found.maps, slope.maps * found.values[:, None, None, None])


@pytest.mark.parametrize("rule", ["deconvnet", "guided"])
@pytest.mark.parametrize(
    "norm",
    [
        LocalResponseNorm(alpha=0.3, k=1.0),
        nn.LocalResponseNorm(3, alpha=0.5),
        lambda x: functional.local_response_norm(x, 3, alpha=0.5),
    ],
)
def test_lrn_is_bypassed_but_counts_forward(norm, rule):
    net, plain = WithStep(norm), WithStep(lambda x: x)
    plain.conv1, plain.conv2 = net.conv1, net.conv2
    images = torch.randn(2, 3, 8, 8)
    found = project(net, images, "conv2", channel=0, at=(2, 3), rule=rule)
    expected = project(plain, images, "conv2", channel=0, at=(2, 3), rule=rule)
    scale = found.values / expected.values if rule == "deconvnet" else torch.ones(2)
    torch.testing.assert_close(found.maps, expected.maps * scale[:, None, None, None])
    assert not torch.allclose(found.values, expected.values)
    assert found.extensions == ("local response normalisation (bypassed)",)


def test_normalising_over_the_batch_is_refused():
    net = WithStep(nn.BatchNorm2d(4, track_running_stats=False))
    for rule in ("gradient", "deconvnet"):
        with pytest.raises(UsageError, match="mixes the images of a batch"):
            project(net, torch.randn(2, 3, 8, 8), "conv2", channel=0, rule=rule)


class Breaks(Own):
    def forward(self, x):
        super().forward(x)
        raise ValueError("no")


def test_nothing_is_left_behind():
    for net, error in (
        (Own("reused"), None),
        (Breaks("relu_"), ValueError),
        (WithStep(functional.gelu), UsageError),
    ):
        net.train()
        next(iter(net.children())).eval()
        net.conv1.weight.requires_grad_(False)
        net.conv2.weight.grad = torch.ones_like(net.conv2.weight)
        before = {key: value.clone() for key, value in net.state_dict().items()}
        modes = [module.training for module in net.modules()]
        images = torch.randn(2, 3, 16, 16)
        copy = images.clone()
        layers = ("conv2", "conv2", "nowhere")
        for layer, expected in zip(layers, (error, error, UsageError), strict=True):
            if expected is None:
                project(net, images, layer, channel=0)
            else:
                with pytest.raises(expected):
                    project(net, images, layer, channel=0)
        assert [module.training for module in net.modules()] == modes
        assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
        assert not net.conv1.weight.requires_grad
        assert net.conv2.weight.requires_grad
        assert torch.equal(net.conv2.weight.grad, torch.ones_like(net.conv2.weight))
        assert torch.equal(images, copy)
        assert not images.requires_grad
        for module in net.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
            assert not module._backward_hooks
        assert not _get_current_function_mode_stack()


@pytest.mark.parametrize("rule", ["deconvnet", "guided", "gradient"])
def test_results_do_not_depend_on_the_batch_size(rule):
    net = build("resnet20")
    images = torch.randn(5, 3, 32, 32)
    whole = project(net, images, "conv2_1", channel=3, rule=rule)
    told = []
    parts = project(
        net,
        images,
        "conv2_1",
        channel=3,
        rule=rule,
        batch_images=2,
        progress=lambda *words: told.append(words),
    )
    torch.testing.assert_close(parts.maps, whole.maps, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(parts.values, whole.values)
    assert parts.places == whole.places
    assert told[-1][1] <= told[-1][2]
    assert len(told) == 3


def test_units_together_are_units_alone_and_places_can_be_chosen():
    net = build("lenet5_modern")
    images = torch.randn(3, 1, 32, 32)
    places = [(0, 0), (2, 5), (9, 9)]
    together = project_units(net, images, "C3", channels=[4, 1], at=places)
    for found, channel in zip(together, (4, 1), strict=True):
        alone = [
            project(net, images[number, None], "C3", channel=channel, at=place)
            for number, place in enumerate(places)
        ]
        torch.testing.assert_close(found.maps, torch.cat([one.maps for one in alone]))
        assert found.places == tuple(places)
        assert found.channel == channel


def test_works_where_gradients_are_off():
    net = build("lenet5_modern")
    images = torch.randn(1, 1, 32, 32)
    expected = project(net, images, "C3", channel=0).maps
    with torch.no_grad():
        torch.testing.assert_close(project(net, images, "C3", channel=0).maps, expected)
    with torch.inference_mode():
        torch.testing.assert_close(project(net, images.clone(), "C3", channel=0).maps, expected)


@pytest.mark.parametrize(
    ("words", "layer", "message"),
    [
        ({"channel": 16}, "C3", "expected a unit of C3 from 0 to 15, got 16"),
        ({"channel": -1}, "C3", "from 0 to 15, got -1"),
        ({"channel": 0, "at": (10, 0)}, "C3", "rows 0 to 9 and columns 0 to 9 of C3, got 10,0"),
        ({"channel": 0, "at": [(1, 1)] * 3}, "C3", "one for each of 2 images, got 3"),
        ({"channel": 0, "at": (1, 1)}, "output", "no maps"),
        ({"channel": 0, "rule": "guess"}, "C3", "deconvnet, gradient, guided"),
        ({"channel": 0, "batch_images": 0}, "C3", "at least 1"),
        ({"channel": 0}, "C4", "did you mean"),
    ],
)
def test_wrong_wishes(words, layer, message):
    with pytest.raises(UsageError, match=message):
        project(build("lenet5_modern"), torch.randn(2, 1, 32, 32), layer, **words)


def test_a_layer_that_pixels_do_not_decide():
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.aside, self.conv = nn.Linear(2, 2), nn.Conv2d(1, 1, 1)

        def forward(self, x):
            return self.conv(x) + self.aside(torch.ones(1, 2)).sum()

    with pytest.raises(UsageError, match="aside"):
        project(Aside(), torch.randn(1, 1, 4, 4), "aside", channel=0)
    with pytest.raises(UsageError, match="several"), recorded(nn.LSTM(4, 4), torch.randn(1, 1, 4), [None]):
        pass


@pytest.mark.peer
@pytest.mark.parametrize("rule", ["deconvnet", "guided"])
def test_scores_agree_with_captum(rule):
    attr = pytest.importorskip("captum.attr")
    net = build("vgg11", input_px=32).eval()
    images = torch.randn(2, 3, 32, 32)
    target = int(
        net(images).amin(0).argmax()
    )  # above 0 for both: the paper starts from the value, they from 1
    theirs = (attr.Deconvolution if rule == "deconvnet" else attr.GuidedBackprop)(net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = theirs.attribute(images.clone().requires_grad_(True), target=target)
    found = project(net, images, None, channel=target, rule=rule)
    assert found.values.min() > 0
    if rule == "deconvnet":
        expected = expected * found.values[:, None, None, None]
    torch.testing.assert_close(found.maps, expected, rtol=1e-3, atol=1e-6)
