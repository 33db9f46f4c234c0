"""Names and shapes of foreign files, against torchvision, timm, and forward passes in Caffe's terms."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from striate import nets
from striate.core.errors import BundleError, UsageError
from striate.data.preprocess import normalise
from striate.weights.bundle import Header
from striate.weights.layouts import FORMATS, caffe, class_keys, guess, layout, nearest, timm, to_torchvision
from striate.weights.load import load_weights
from striate.weights.open import untrained_preprocessing
from striate.weights.read import read_weights
from striate.weights.weight_file import WeightFile

TORCHVISION = {
    "alexnet_owt": "alexnet",
    "vgg11": "vgg11",
    "vgg13": "vgg13",
    "vgg16": "vgg16",
    "vgg19": "vgg19",
    "vgg11_bn": "vgg11_bn",
    "vgg13_bn": "vgg13_bn",
    "vgg16_bn": "vgg16_bn",
    "vgg19_bn": "vgg19_bn",
    "googlenet_tv": "googlenet",
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50_v1_5": "resnet50",
    "resnet101_v1_5": "resnet101",
    "resnet152_v1_5": "resnet152",
}
OPTIONS = {"googlenet": {"aux_logits": True, "transform_input": False, "init_weights": False}}


def file_of(tensors: dict[str, Tensor], kind: str, **facts) -> WeightFile:
    return WeightFile(path=Path("weights.bin"), kind=kind, tensors=tensors, **facts)


@torch.no_grad()
def randomise(net):
    """Draw every tensor so that values keep their size and no two channels are alike; quickly if large."""
    for key, tensor in net.state_dict().items():
        if key.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.ndim == 2:
            scale = (2 / tensor.shape[1]) ** 0.5
            tensor.copy_(torch.randn(len(tensor), 1) * torch.randn(1, tensor.shape[1]) * scale)
        elif tensor.ndim == 4:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5)
        elif key.endswith("weight"):
            tensor.uniform_(0.3, 0.7)
        elif tensor.is_floating_point():
            tensor.normal_(0, 0.1)
    return net.eval()


def empty(build):
    """Build a network without drawing its weights."""
    with torch.device("meta"):
        net = build()
    return net.to_empty(device="cpu")


@torch.inference_mode()
def assert_same_scores(ours, theirs, side_px):
    images = torch.randn(1, 3, side_px, side_px)
    scores, expected = ours.eval()(images), theirs(images)
    assert expected.std() > 0
    assert torch.isfinite(expected).all()
    assert (scores - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.peer
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_weights_give_torchvisions_scores_and_go_back_bit_for_bit(
    name, torchvision_models, tmp_path
):
    theirs_name = TORCHVISION[name]
    options = OPTIONS.get(theirs_name, {})
    theirs = randomise(
        empty(lambda: torchvision_models.get_model(theirs_name, weights=None, num_classes=10, **options))
    )
    state = theirs.state_dict()
    if theirs_name in ("alexnet", "googlenet", "resnet18"):
        torch.save(state, tmp_path / "theirs.pth")
        file = read_weights(tmp_path / "theirs.pth")
    else:
        file = file_of(state, "torch")
    small = {} if theirs_name.startswith(("vgg", "alexnet")) else {"input_px": 96}
    ours = empty(lambda: nets.build(name, num_classes=10, **small))
    report = load_weights(ours.eval(), name, file)
    assert report.used == len(state)
    assert (report.left_over, report.replaced) == ((), ())
    if theirs_name == "googlenet":
        # torchvision's auxiliary heads pool adaptively; the main scores do not depend on them
        assert torch.equal(ours.aux2.bn.running_mean, state["aux2.conv.bn.running_mean"])
        assert torch.equal(ours.aux1.fc2.weight, state["aux1.fc2.weight"])
    if theirs_name.startswith("vgg") and theirs_name != "vgg16":  # in two parts, at a tenth of the cost
        flatten = list(dict(ours.named_children())).index("flatten")
        assert_same_scores(ours[:flatten], theirs.features, 64)
        features = torch.rand(1, 512 * 7 * 7)
        with torch.inference_mode():
            assert torch.equal(ours[flatten + 1 :](features), theirs.classifier(features))
    else:
        assert_same_scores(ours, theirs, small.get("input_px", 224))
    back = to_torchvision(name, ours.state_dict())
    assert list(back) == list(state)
    assert all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.peer
@pytest.mark.parametrize("name", ["vgg11_bn", "resnet50_v1_5"])
def test_timms_weights_give_timms_scores(name, torchvision_models):
    timm_models = pytest.importorskip("timm")
    theirs_name = TORCHVISION[name]
    theirs = randomise(empty(lambda: timm_models.create_model(theirs_name, num_classes=10)))
    ours = empty(lambda: nets.build(name, num_classes=10))
    report = load_weights(ours, name, file_of(theirs.state_dict(), "safetensors"))
    assert report.format == ("timm" if name.startswith("vgg") else "torchvision")
    assert report.left_over == ()
    assert_same_scores(ours, theirs, 224)


def test_a_convolution_over_the_whole_map_becomes_rows_in_reading_order():
    weight = torch.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    prepared = timm.prepare({"pre_logits.fc1.weight": weight, "features.0.weight": weight})
    assert prepared["pre_logits.fc1.weight"].tolist() == [list(range(12)), list(range(12, 24))]
    assert prepared["features.0.weight"] is weight


# places of the convolutions in torchvision's ``features``, read off its published files
VGG_PLACES = {
    "vgg11": [0, 3, 6, 8, 11, 13, 16, 18],
    "vgg11_bn": [0, 4, 8, 11, 15, 18, 22, 25],
    "vgg13": [0, 2, 5, 7, 10, 12, 15, 17, 20, 22],
    "vgg13_bn": [0, 3, 7, 10, 14, 17, 21, 24, 28, 31],
    "vgg16": [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28],
    "vgg16_bn": [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40],
    "vgg19": [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34],
    "vgg19_bn": [0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49],
}


@pytest.mark.parametrize("name", VGG_PLACES)
def test_vggs_places(name):
    table = layout("torchvision", name).keys
    places = [
        int(key.split(".")[1]) for key, ours in table.items() if ours.startswith("conv") and "weight" in ours
    ]
    assert places == VGG_PLACES[name]
    if name.endswith("_bn"):
        assert [int(key.split(".")[1]) for key in table if key.endswith("running_var")] == [
            place + 1 for place in places
        ]
    timms = layout("timm", name).keys
    assert timms["pre_logits.fc2.bias"] == "fc7.bias"
    assert timms["head.fc.weight"] == "fc8.weight"


@pytest.mark.parametrize(("name", "count"), [("resnet18", 122), ("resnet34", 218), ("resnet50_v1_5", 320)])
def test_number_of_torchvisions_keys(name, count):
    table = layout("torchvision", name).keys
    assert len(table) == count
    assert table["layer2.0.downsample.1.running_mean"] == "conv3_1.shortcut.bn.running_mean"
    assert ("layer1.0.downsample.0.weight" in table) == (count == 320)


@pytest.mark.parametrize(
    ("format", "name"), [(one, name) for one, names in FORMATS.items() for name in names]
)
def test_every_layout_names_every_tensor_once(format, name):
    with torch.device("meta"):
        expected = set(nets.build(name).state_dict())
        if format == "cifar":  # whose shortcuts have parameters in option B alone
            expected |= set(nets.build(name, shortcut="B").state_dict())
    found = list(layout(format, name).keys.values())
    assert len(set(found)) == len(found)
    assert {key for key in expected - set(found) if not key.endswith("num_batches_tracked")} == set()
    assert set(found) <= expected


def test_a_network_that_a_format_does_not_have():
    with pytest.raises(BundleError, match="expected a network that timm files are known for"):
        layout("timm", "alexnet_owt")
    with pytest.raises(UsageError, match="use resnet50_v1_5"):
        to_torchvision("resnet50", {})
    with pytest.raises(UsageError, match=r"32 missing \(conv1_1.weight, .*1 unknown \(x\)"):
        to_torchvision("vgg16", {"x": torch.zeros(1)})


# -- Caffe: forward passes with Caffe's names, shapes and colours --------------------------------------------

BGR_MEAN = torch.tensor([90.0, 110.0, 130.0])


class Caffe:
    """A network as Caffe computes it: blobs by layer, BGR pictures less their mean."""

    def __init__(self, blobs):
        self.blobs = blobs

    @classmethod
    def of(cls, shapes):
        """Draw blobs of these shapes, with a bias for each layer that has a name without ``!``."""
        blobs = {}
        for name, shape in shapes.items():
            layer = name.removesuffix("!")
            fan_in = torch.Size(shape[1:]).numel()
            blobs[f"{layer}.0"] = torch.randn(*shape) * (2 / fan_in) ** 0.5
            if not name.endswith("!"):
                blobs[f"{layer}.1"] = torch.randn(shape[0]) * 0.1
        return cls(blobs)

    def conv(self, maps, layer, **options):
        bias = self.blobs.get(f"{layer}.1")
        return functional.conv2d(maps, self.blobs[f"{layer}.0"], bias, **options)

    def relu(self, maps, layer, **options):
        return self.conv(maps, layer, **options).relu()

    def fc(self, features, layer):
        weight = self.blobs[f"{layer}.0"].reshape(self.blobs[f"{layer}.1"].numel(), -1)
        return functional.linear(features.flatten(1), weight, self.blobs[f"{layer}.1"].reshape(-1))


def pool(maps):
    return functional.max_pool2d(maps, 3, stride=2, ceil_mode=True)


def norm(maps):
    return functional.local_response_norm(maps, 5, alpha=1e-4, beta=0.75, k=1.0)


def caffe_picture(pixels):
    """RGB pixels ``N x H x W x 3`` -> what Caffe is given."""
    return (pixels.flip(-1).float() - BGR_MEAN).permute(0, 3, 1, 2)


def assert_loads(name, caffe_net, forward, *, kind="caffe", layers=None, **arguments):
    """Load blobs into striate's network and compare scores, both from the same RGB picture."""
    ours = nets.build(name, **arguments).eval()
    file = file_of(caffe_net.blobs, kind, mean_rgb=(130.0, 110.0, 90.0), layers=layers or ())
    report = load_weights(ours, name, file)
    side = ours.input_shape[1]
    pixels = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8)
    with torch.inference_mode():
        scores = ours(normalise(pixels, report.preprocessing))
        expected = forward(caffe_net, caffe_picture(pixels))
    assert expected.std() > 0
    assert (scores - expected).abs().max() <= 2e-5 * expected.abs().max()
    return report


def alexnet_shapes():
    return {
        "conv1": (96, 3, 11, 11),
        "conv2": (256, 48, 5, 5),
        "conv3": (384, 256, 3, 3),
        "conv4": (384, 192, 3, 3),
        "conv5": (256, 192, 3, 3),
        "fc6": (4096, 256),
        "fc7": (4096, 4096),
        "fc8": (5, 4096),
    }


def alexnet_forward(net, maps, *, pool_first):
    maps = net.relu(maps, "conv1", stride=4)
    maps = norm(pool(maps)) if pool_first else pool(norm(maps))
    maps = net.relu(maps, "conv2", padding=2, groups=2)
    maps = norm(pool(maps)) if pool_first else pool(norm(maps))
    maps = net.relu(maps, "conv3", padding=1)
    maps = net.relu(maps, "conv4", padding=1, groups=2)
    maps = pool(net.relu(maps, "conv5", padding=1, groups=2))
    return net.fc(net.fc(net.fc(maps, "fc6").relu(), "fc7").relu(), "fc8")


@pytest.mark.parametrize(("name", "pool_first"), [("alexnet_caffe", False), ("caffenet", True)])
def test_caffes_alexnets(name, pool_first):
    report = assert_loads(
        name,
        Caffe.of(alexnet_shapes()),
        lambda net, maps: alexnet_forward(net, maps, pool_first=pool_first),
        num_classes=5,
        input_px=67,
    )
    assert report.used == 16
    assert any("mean image" in note for note in report.notes)


def vgg16_shapes():
    widths = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    shapes, channels = {}, 3
    for block, (width, num_convs) in enumerate(widths, start=1):
        for number in range(1, num_convs + 1):
            shapes[f"conv{block}_{number}"] = (width, channels, 3, 3)
            channels = width
    return shapes | {"fc6": (4096, 512), "fc7": (4096, 4096), "fc8": (7, 4096)}


def vgg16_forward(net, maps):
    for block, num_convs in enumerate((2, 2, 3, 3, 3), start=1):
        for number in range(1, num_convs + 1):
            maps = net.relu(maps, f"conv{block}_{number}", padding=1)
        maps = functional.max_pool2d(maps, 2)
    return net.fc(net.fc(net.fc(maps, "fc6").relu(), "fc7").relu(), "fc8")


def test_caffes_vgg16_with_the_shapes_of_old_files():
    net = Caffe.of(vgg16_shapes())
    for key, blob in net.blobs.items():
        if key.endswith(".1"):
            net.blobs[key] = blob.reshape(1, 1, 1, -1)
        elif key.startswith("fc"):
            net.blobs[key] = blob.reshape(1, 1, *blob.shape)

    def forward(net, maps):
        squeezed = {k: b.reshape(-1) if k.endswith(".1") else b for k, b in net.blobs.items()}
        return vgg16_forward(Caffe(squeezed), maps)

    assert_loads("vgg16", net, forward, num_classes=7, input_px=32)


def test_matconvnets_vgg16_takes_rgb_and_convolutions_for_fully_connected_layers():
    net = Caffe.of(vgg16_shapes())
    file = dict(net.blobs)
    for layer in ("fc6", "fc7", "fc8"):
        file[f"{layer}.0"] = file[f"{layer}.0"][:, :, None, None]
        file[f"{layer}.1"] = file[f"{layer}.1"].reshape(-1, 1)
    ours = nets.build("vgg16", num_classes=7, input_px=32).eval()
    report = load_weights(ours, "vgg16", file_of(file, "matconvnet", mean_rgb=(120.0, 110.0, 100.0)))
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    rgb = (pixels.float() - torch.tensor([120.0, 110.0, 100.0])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = vgg16_forward(net, rgb)
        scores = ours(normalise(pixels, report.preprocessing))
    assert (scores - expected).abs().max() <= 2e-5 * expected.abs().max()


# widths of the modules in the paper's Table 1: in, 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj
INCEPTION = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


def googlenet_shapes():
    shapes = {
        "conv1/7x7_s2": (64, 3, 7, 7),
        "conv2/3x3_reduce": (64, 64, 1, 1),
        "conv2/3x3": (192, 64, 3, 3),
    }
    for module, (n_in, n1, n3r, n3, n5r, n5, proj) in INCEPTION.items():
        name = f"inception_{module}"
        shapes |= {
            f"{name}/1x1": (n1, n_in, 1, 1),
            f"{name}/3x3_reduce": (n3r, n_in, 1, 1),
            f"{name}/3x3": (n3, n3r, 3, 3),
            f"{name}/5x5_reduce": (n5r, n_in, 1, 1),
            f"{name}/5x5": (n5, n5r, 5, 5),
            f"{name}/pool_proj": (proj, n_in, 1, 1),
        }
    for head, channels in (("loss1", 512), ("loss2", 528)):
        shapes |= {
            f"{head}/conv": (128, channels, 1, 1),
            f"{head}/fc": (1024, 2048),
            f"{head}/classifier": (1000, 1024),
        }
    return shapes | {"loss3/classifier": (1000, 1024)}


def googlenet_forward(net, maps):
    def module(maps, name):
        return torch.cat(
            [
                net.relu(maps, f"{name}/1x1"),
                net.relu(net.relu(maps, f"{name}/3x3_reduce"), f"{name}/3x3", padding=1),
                net.relu(net.relu(maps, f"{name}/5x5_reduce"), f"{name}/5x5", padding=2),
                net.relu(functional.max_pool2d(maps, 3, stride=1, padding=1), f"{name}/pool_proj"),
            ],
            dim=1,
        )

    maps = norm(pool(net.relu(maps, "conv1/7x7_s2", stride=2, padding=3)))
    maps = pool(norm(net.relu(net.relu(maps, "conv2/3x3_reduce"), "conv2/3x3", padding=1)))
    for name in INCEPTION:
        maps = pool(maps) if name in ("4a", "5a") else maps
        maps = module(maps, f"inception_{name}")
    return net.fc(maps.mean((2, 3)), "loss3/classifier")


def test_caffes_googlenet_with_and_without_auxiliary_classifiers():
    net = Caffe.of(googlenet_shapes())
    report = assert_loads("googlenet", net, googlenet_forward, input_px=64, auxiliaries=False)
    assert set(report.left_over) == {
        f"loss{head}/{layer}.{blob}"
        for head in (1, 2)
        for layer in ("conv", "fc", "classifier")
        for blob in (0, 1)
    }
    whole = empty(lambda: nets.build("googlenet"))
    assert load_weights(whole, "googlenet", file_of(net.blobs, "caffe")).left_over == ()
    assert torch.equal(whole.aux2.fc1.weight, net.blobs["loss2/fc.0"])
    assert torch.equal(whole.aux1.conv.bias, net.blobs["loss1/conv.1"])
    main = {key: blob for key, blob in net.blobs.items() if not key.startswith(("loss1", "loss2"))}
    report = load_weights(whole, "googlenet", file_of(main, "caffe"))
    assert report.replaced == ("aux1: not in the file: drawn anew", "aux2: not in the file: drawn anew")


RESNET50 = {2: ("abc", 64, 64), 3: ("abcd", 256, 128), 4: ("abcdef", 512, 256), 5: ("abc", 1024, 512)}


def resnet50_blobs():
    """Draw the author's ResNet-50: bias on conv1 only; BatchNorm as sums and their number; Scale apart."""
    shapes = {"conv1": (64, 3, 7, 7)}
    for stage, (letters, n_in, width) in RESNET50.items():
        for letter in letters:
            block = f"res{stage}{letter}"
            if letter == "a":
                shapes[f"{block}_branch1!"] = (4 * width, n_in, 1, 1)
            shapes[f"{block}_branch2a!"] = (width, n_in if letter == "a" else 4 * width, 1, 1)
            shapes[f"{block}_branch2b!"] = (width, width, 3, 3)
            shapes[f"{block}_branch2c!"] = (4 * width, width, 1, 1)
    net = Caffe.of(shapes | {"fc1000": (1000, 2048)})
    for layer in [key.removesuffix(".0") for key in net.blobs if key.endswith(".0") and "fc" not in key]:
        tail = "_conv1" if layer == "conv1" else layer.removeprefix("res")
        width = len(net.blobs[f"{layer}.0"])
        net.blobs[f"bn{tail}.0"] = torch.randn(width) * 20
        net.blobs[f"bn{tail}.1"] = torch.rand(width) * 100 + 50
        net.blobs[f"bn{tail}.2"] = torch.tensor([100.0])
        net.blobs[f"scale{tail}.0"] = torch.rand(width) * 0.4 + 0.3
        net.blobs[f"scale{tail}.1"] = torch.randn(width) * 0.1
    return net


def resnet50_forward(net, maps):
    def normed(maps, tail):
        mean, variance, number = (net.blobs[f"bn{tail}.{n}"][:, None, None] for n in range(3))
        gamma, beta = (net.blobs[f"scale{tail}.{n}"][:, None, None] for n in range(2))
        return gamma * (maps - mean / number) / (variance / number + 1e-5).sqrt() + beta

    maps = normed(net.conv(maps, "conv1", stride=2, padding=3), "_conv1").relu()
    maps = functional.max_pool2d(maps, 3, stride=2, padding=1)  # striate's; the author's model pads nothing
    for stage, (letters, _, _) in RESNET50.items():
        for letter in letters:
            name = f"{stage}{letter}_branch"
            stride = 2 if letter == "a" and stage > 2 else 1
            branch = normed(net.conv(maps, f"res{name}2a", stride=stride), f"{name}2a").relu()
            branch = normed(net.conv(branch, f"res{name}2b", padding=1), f"{name}2b").relu()
            branch = normed(net.conv(branch, f"res{name}2c"), f"{name}2c")
            if letter == "a":
                maps = normed(net.conv(maps, f"res{name}1", stride=stride), f"{name}1")
            maps = (maps + branch).relu()
    return net.fc(maps.mean((2, 3)), "fc1000")


def test_the_authors_resnet50_in_caffe():
    report = assert_loads("resnet50", resnet50_blobs(), resnet50_forward, input_px=64)
    # conv1 and its bias; 53 convolutions in all, with 5 blobs each of BatchNorm and Scale; fc1000
    assert report.used == 53 + 1 + 5 * 53 + 2
    assert report.left_over == ()
    assert any("pads it by 1" in note for note in report.notes)


def test_a_batch_norm_without_sums_is_zero_and_odd_blobs_are_refused():
    blobs = {
        "bn2a_branch1.0": torch.ones(2),
        "bn2a_branch1.1": torch.ones(2),
        "bn2a_branch1.2": torch.zeros(1),
    }
    prepared = caffe.prepare(blobs)
    assert {key: blob.tolist() for key, blob in prepared.items()} == {
        "bn2a_branch1.0": [0.0, 0.0],
        "bn2a_branch1.1": [0.0, 0.0],
    }
    with pytest.raises(BundleError, match="one value as the number of its sums, got 2"):
        caffe.prepare(blobs | {"bn2a_branch1.2": torch.zeros(2)})
    with pytest.raises(BundleError, match="got 3 and 2"):
        caffe.prepare({"conv1.1": torch.zeros(3), "bn_conv1.0": torch.zeros(2)})


def test_the_names_of_the_authors_deeper_resnets():
    deep, deepest = caffe.keys("resnet101"), caffe.keys("resnet152")
    assert deep["res3b3_branch2a.0"] == "conv3_4.conv1.weight"
    assert deep["bn4b22_branch2c.1"] == "conv4_23.bn3.running_var"
    assert deep["scale2c_branch2b.1"] == "conv2_3.bn2.bias"
    assert deep["res5c_branch2b.0"] == "conv5_3.conv2.weight"
    assert deepest["res3b7_branch2a.0"] == "conv3_8.conv1.weight"
    assert deepest["res4b35_branch2c.0"] == "conv4_36.conv3.weight"
    assert deepest["scale4a_branch1.0"] == "conv4_1.shortcut.bn.weight"
    assert "conv1.1" not in deep


def test_caffes_network_in_network():
    shapes = {
        "conv1": (96, 3, 11, 11),
        "cccp1": (96, 96, 1, 1),
        "cccp2": (96, 96, 1, 1),
        "conv2": (256, 96, 5, 5),
        "cccp3": (256, 256, 1, 1),
        "cccp4": (256, 256, 1, 1),
        "conv3": (384, 256, 3, 3),
        "cccp5": (384, 384, 1, 1),
        "cccp6": (384, 384, 1, 1),
        "conv4-1024": (1024, 384, 3, 3),
        "cccp7-1024": (1024, 1024, 1, 1),
        "cccp8-1024": (1000, 1024, 1, 1),
    }
    padding = {"conv2": 2, "conv3": 1, "conv4-1024": 1}

    def forward(net, maps):
        for layer in shapes:
            if layer in padding:
                maps = pool(maps)
            stride = 4 if layer == "conv1" else 1
            maps = net.relu(maps, layer, stride=stride, padding=padding.get(layer, 0))
        return maps.mean((2, 3))

    assert_loads("nin_imagenet", Caffe.of(shapes), forward, input_px=67)


def test_caffes_lenet_sees_grey_pixels_over_256():
    shapes = {"conv1": (20, 1, 5, 5), "conv2": (50, 20, 5, 5), "ip1": (500, 800), "ip2": (10, 500)}
    net = Caffe.of(shapes)
    ours = nets.build("lenet_caffe").eval()
    report = load_weights(ours, "lenet_caffe", file_of(net.blobs, "caffe"))
    pixels = torch.randint(0, 256, (2, 28, 28, 1), dtype=torch.uint8)
    maps = pixels.permute(0, 3, 1, 2) / 256
    for layer in ("conv1", "conv2"):
        maps = functional.max_pool2d(net.conv(maps, layer), 2)
    expected = net.fc(net.fc(maps, "ip1").relu(), "ip2")
    with torch.inference_mode():
        scores = ours(normalise(pixels, report.preprocessing))
    assert (scores - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert report.classes is None


# -- guess ---------------------------------------------------------------------------------------------------


def on_meta(format, name, **arguments):
    """A file's tensors without values, in a foreign format's names but striate's shapes."""
    with torch.device("meta"):
        state = nets.build(name, **arguments).state_dict()
    return {theirs: state[ours] for theirs, ours in layout(format, name).keys.items()}


@pytest.mark.parametrize(
    ("tensors", "kind", "expected"),
    [
        (("torchvision", "resnet50_v1_5"), "torch", ("resnet50_v1_5", "resnet50")),
        (("torchvision", "resnet18"), "safetensors", ("resnet18",)),
        (("torchvision", "vgg13_bn"), "torch", ("vgg13_bn",)),
        (("torchvision", "googlenet_tv"), "torch", ("googlenet_tv",)),
        (("timm", "vgg19"), "safetensors", ("vgg19",)),
        (("caffe", "nin_imagenet"), "caffe", ("nin_imagenet",)),
        (("matconvnet", "vgg16"), "matconvnet", ("vgg16",)),
    ],
)
def test_guess(tensors, kind, expected):
    assert guess(file_of(on_meta(*tensors), kind)) == expected


def test_guess_allows_other_classes_but_no_other_shapes_or_names():
    tensors = on_meta("torchvision", "resnet34", num_classes=3)
    assert guess(file_of(tensors, "torch")) == ("resnet34",)
    without_counters = {key: one for key, one in tensors.items() if "num_batches" not in key}
    assert guess(file_of(without_counters, "torch")) == ("resnet34",)
    wrong = tensors | {"layer1.0.conv1.weight": torch.zeros(64, 64, 5, 5, device="meta")}
    assert guess(file_of(wrong, "torch")) == ()
    assert guess(file_of(tensors | {"more": torch.zeros(1)}, "torch")) == ()
    assert guess(file_of({}, "onnx")) == ()


def test_guess_wants_one_number_of_classes():
    tensors = on_meta("torchvision", "resnet18", num_classes=7)
    assert guess(file_of(tensors, "torch")) == ("resnet18",)
    for rows in (8, 1000):
        assert guess(file_of(tensors | {"fc.bias": torch.zeros(rows)}, "torch")) == ()


def test_guess_wants_auxiliary_classifiers_whole_or_not_at_all():
    tensors = on_meta("torchvision", "googlenet_tv")
    main = {key: one for key, one in tensors.items() if not key.startswith("aux")}
    assert guess(file_of(main, "torch")) == ("googlenet_tv",)
    del tensors["aux1.fc1.weight"]
    assert guess(file_of(tensors, "torch")) == ()


def test_the_nearest_network_of_a_file_that_fits_none():
    tensors = on_meta("torchvision", "resnet18", num_classes=7)
    del tensors["layer1.0.bn1.weight"]
    close = nearest(file_of(tensors, "torch"))
    assert (close.net, close.num_alike, close.num_expected) == ("resnet18", 121, 122)
    more = nearest(file_of(tensors | {"more": torch.zeros(1), "fc.bias": torch.zeros(8)}, "torch"))
    assert (more.net, more.num_alike, more.num_expected) == ("resnet18", 119, 123)  # two of fc disagree
    assert nearest(file_of({"encoder.weight": torch.zeros(1)}, "torch")) is None
    assert nearest(file_of({}, "onnx")) is None


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("lenet5", ["output"]),
        ("lenet5_rbf", []),
        ("vgg16", ["fc8"]),
        ("googlenet", ["aux1.fc2", "aux2.fc2", "fc"]),
        ("resnet18", ["fc"]),
        ("nin_imagenet", ["cccp8"]),
    ],
)
def test_the_layers_with_a_row_for_each_class(name, layers):
    assert sorted(class_keys(name)) == sorted(
        f"{one}.{part}" for one in layers for part in ("weight", "bias")
    )


def test_guess_tells_caffes_two_alexnets_apart_by_the_order_of_their_layers():
    tensors = on_meta("caffe", "caffenet")
    for order, expected in (
        (("conv1", "norm1", "pool1"), ("alexnet_caffe", "caffenet")),
        (("conv1", "pool1", "norm1"), ("caffenet", "alexnet_caffe")),
    ):
        assert guess(file_of(tensors, "caffe", layers=order)) == expected


def test_guess_knows_striates_own_names():
    with torch.device("meta"):
        state = nets.build("vgg11").state_dict()
    assert guess(file_of(state, "torch")) == ("vgg11", "vgg_a_lrn")  # LRN has no weights
    header = Header(net="resnet20", classes=("a",), preprocessing=untrained_preprocessing((3, 32, 32)))
    assert guess(file_of({}, "striate bundle", header=header)) == ("resnet20",)
