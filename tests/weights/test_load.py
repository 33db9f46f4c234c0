"""Loading: what is refused, what is kept, what is reported; converting to a bundle."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from striate.core.errors import BundleError, UsageError
from striate.data.preprocess import Preprocessing
from striate.nets import build, find
from striate.weights.bundle import Bundle, Header, save_bundle
from striate.weights.convert import convert, given_preprocessing
from striate.weights.imagenet import imagenet_classes
from striate.weights.layouts import guess, network_in
from striate.weights.load import load_weights
from striate.weights.open import open_bundle
from striate.weights.read import read_weights
from striate.weights.weight_file import WeightFile

GREY = Preprocessing(channels=1, height_px=28, width_px=28, resize_px=None, mean=(0.1,), std=(0.3,))
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def file_of(tensors, kind="torch", path="weights.pth", **facts):
    return WeightFile(path=Path(path), kind=kind, tensors=tensors, **facts)


def resnet18_in_torchvisions_names(num_classes=1000):
    """Write the names by hand: stem, four stages of two blocks, classifier."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {"conv1.weight": "conv1.weight"} | {f"bn1.{part}": f"bn1.{part}" for part in norm}
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            ours, theirs = f"conv{stage + 1}_{block + 1}", f"layer{stage}.{block}"
            for n in (1, 2):
                names[f"{ours}.conv{n}.weight"] = f"{theirs}.conv{n}.weight"
                names |= {f"{ours}.bn{n}.{part}": f"{theirs}.bn{n}.{part}" for part in norm}
            if stage > 1 and block == 0:
                names[f"{ours}.shortcut.conv.weight"] = f"{theirs}.downsample.0.weight"
                names |= {f"{ours}.shortcut.bn.{part}": f"{theirs}.downsample.1.{part}" for part in norm}
    names |= {"fc.weight": "fc.weight", "fc.bias": "fc.bias"}
    state = build("resnet18", num_classes=num_classes).state_dict()
    assert len(names) == 122
    return {theirs: torch.rand_like(state[ours].float()) for ours, theirs in names.items()}


def copy_of(net):
    return {key: tensor.clone() for key, tensor in net.state_dict().items()}


def test_everything_is_used_and_the_report_says_what_belongs_to_it():
    tensors = resnet18_in_torchvisions_names()
    net = build("resnet18")
    report = load_weights(net, "resnet18", file_of(tensors, path="mine.pth", notes=("from the reader",)))
    assert report.format == "torchvision"
    assert report.used == 122
    assert (report.left_over, report.replaced) == ((), ())
    assert report.preprocessing == Preprocessing(
        channels=3, height_px=224, width_px=224, resize_px=256, interpolation="bilinear", **IMAGENET
    )
    assert report.classes is not None
    assert (report.classes[0], report.classes[207]) == ("tench", "golden retriever")
    assert report.notes[0] == "from the reader"
    assert "torchvision's preprocessing is assumed" in report.notes[-1]
    assert torch.equal(net.conv3_1.shortcut.conv.weight, tensors["layer2.0.downsample.0.weight"])
    assert torch.equal(net.conv5_2.bn2.running_var, tensors["layer4.1.bn2.running_var"])


def test_a_published_file_name_tells_the_preprocessing():
    tensors = resnet18_in_torchvisions_names()
    report = load_weights(
        build("resnet18"), "resnet18", file_of(tensors, "safetensors", "resnet18.a1_in1k.safetensors")
    )
    assert report.preprocessing is not None
    assert (report.preprocessing.resize_px, report.preprocessing.interpolation) == (235, "bicubic")
    assert report.notes == ()


def test_counters_may_be_missing():
    tensors = resnet18_in_torchvisions_names()
    old = {key: tensor for key, tensor in tensors.items() if "num_batches_tracked" not in key}
    assert load_weights(build("resnet18"), "resnet18", file_of(old)).used == 122 - 20


def test_a_head_for_other_classes_keeps_its_fresh_weights():
    tensors = resnet18_in_torchvisions_names()
    net = build("resnet18", num_classes=2)
    before = copy_of(net)
    report = load_weights(net, "resnet18", file_of(tensors))
    assert report.replaced == ("fc: 1000 classes in the file, 2 here: drawn anew",)
    assert report.used == 120
    assert report.classes is None
    assert torch.equal(net.fc.weight, before["fc.weight"])
    assert torch.equal(net.fc.bias, before["fc.bias"])
    assert torch.equal(net.conv1.weight, tensors["conv1.weight"])


def test_every_difference_is_listed_at_once_and_nothing_is_copied():
    tensors = resnet18_in_torchvisions_names()
    del tensors["layer2.0.bn1.weight"]
    tensors["layer1.0.conv1.weight"] = torch.zeros(64, 64, 5, 5)
    tensors["fc.bias"] = torch.full((1000,), float("nan"))
    tensors["extra.weight"] = torch.zeros(3, 4)
    tensors["bn1.bias"] = torch.zeros(64, dtype=torch.uint8)
    net = build("resnet18")
    before = copy_of(net)
    with pytest.raises(BundleError) as caught:
        load_weights(net, "resnet18", file_of(tensors))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for part in (
        "weights.pth: expected resnet18 in torchvision's names, got 5 differences",
        "layer2.0.bn1.weight (conv3_1.bn1.weight here) is missing, 128 expected",
        "layer1.0.conv1.weight (conv2_1.conv1.weight here): 64x64x5x5 in the file, 64x64x3x3 here",
        "fc.bias holds values that are not finite",
        "extra.weight, 3x4, is unknown",
        "bn1.bias holds uint8, float32 expected",
    ):
        assert part in message
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())


def test_a_long_list_is_cut_and_the_right_network_is_proposed():
    tensors = resnet18_in_torchvisions_names()
    with pytest.raises(BundleError) as caught:
        load_weights(build("resnet34"), "resnet34", file_of(tensors))
    message = str(caught.value)
    assert message.count(" is missing") == 20
    # resnet34 has 8 blocks more: 2 convolutions, 2 batch normalisations of 4 (counters apart) each
    assert "got 80 differences" in message
    assert "and 60 more" in message
    # the remedy comes before the list, so that a narrow terminal shows it
    assert "got 80 differences: the file fits resnet18, load it into that. Differences: layer1.2" in message


def test_a_file_of_something_else():
    with pytest.raises(BundleError, match=r"got encoder.weight, head.bias: check the network's name"):
        load_weights(
            build("convnetjs_cifar"),
            "convnetjs_cifar",
            file_of({"encoder.weight": torch.zeros(1), "head.bias": torch.zeros(1)}),
        )
    with pytest.raises(BundleError, match=r"got an ONNX graph"):
        load_weights(build("convnetjs_cifar"), "convnetjs_cifar", file_of({"a": torch.zeros(1)}, "onnx"))


def test_the_papers_stride_gets_a_loud_note():
    with torch.device("meta"):
        state = build("resnet50_v1_5").state_dict()
    names = {"conv1.weight", "bn1.weight", "fc.weight"}
    assert names <= set(state)
    net = build("resnet50", input_px=32)
    file = file_of(_torchvisions_resnet50(state))
    notes = load_weights(net, "resnet50", file).notes
    assert any(note.startswith("WARNING") and "use resnet50_v1_5" in note for note in notes)


def _torchvisions_resnet50(state):
    """Rename by the pattern of the names alone."""
    renamed = {}
    for key, tensor in state.items():
        name = key.replace("shortcut.conv", "downsample.0").replace("shortcut.bn", "downsample.1")
        if "_" in name.split(".")[0]:
            block, rest = name.split(".", 1)
            stage, number = block.removeprefix("conv").split("_")
            name = f"layer{int(stage) - 1}.{int(number) - 1}.{rest}"
        renamed[name] = torch.rand(tensor.shape)
    return renamed


def test_half_precision_is_converted_and_reported():
    state = {key: tensor.half() for key, tensor in build("convnetjs_cifar").state_dict().items()}
    net = build("convnetjs_cifar")
    report = load_weights(net, "convnetjs_cifar", file_of(state))
    assert report.format == "striate"
    assert report.notes == ("stored as float16, used as float32",)
    assert report.preprocessing is None
    for key, tensor in net.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, state[key].float())


def test_googlenets_auxiliary_heads_follow_the_classes_and_may_be_left_over():
    whole = build("googlenet_tv", num_classes=4)
    file = file_of(whole.state_dict())
    net = build("googlenet_tv", num_classes=3)
    assert set(load_weights(net, "googlenet_tv", file).replaced) == {
        f"{layer}: 4 classes in the file, 3 here: drawn anew" for layer in ("aux1.fc2", "aux2.fc2", "fc")
    }
    assert torch.equal(net.aux1.fc1.weight, whole.aux1.fc1.weight)
    bare = build("googlenet_tv", num_classes=4, auxiliaries=False)
    report = load_weights(bare, "googlenet_tv", file)
    assert len(report.left_over) == 2 * (1 + 5 + 4)  # convolution, batch normalisation, two layers
    assert all(key.startswith(("aux1.", "aux2.")) for key in report.left_over)
    assert report.used == len(bare.state_dict())


def test_half_an_auxiliary_head_is_refused():
    state = dict(build("googlenet_tv", num_classes=4).state_dict())
    del state["aux1.fc1.weight"]
    with pytest.raises(
        BundleError, match=r"got 1 difference: .* Differences: aux1.fc1.weight is missing, 1024x2048 expected"
    ):
        load_weights(build("googlenet_tv", num_classes=4), "googlenet_tv", file_of(state))


@pytest.fixture
def bundle_path(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_bundle(
        Bundle(
            net="lenet_caffe",
            classes=("a", "b"),
            preprocessing=GREY,
            state=build("lenet_caffe", num_classes=2).state_dict(),
        ),
        path,
    )
    return path


def test_a_bundle_brings_its_own_preprocessing_and_classes(bundle_path):
    net = build("lenet_caffe", num_classes=2)
    report = load_weights(net, "lenet_caffe", read_weights(bundle_path))
    assert report.preprocessing == GREY
    assert report.classes == ("a", "b")
    assert report.used == 8
    other = build("lenet_caffe", num_classes=5)
    assert load_weights(other, "lenet_caffe", read_weights(bundle_path)).classes is None


def test_a_bundle_of_another_network_or_with_damaged_metadata_is_refused(bundle_path, tmp_path):
    with pytest.raises(BundleError, match="expected weights of convnetjs_cifar, got those of lenet_caffe"):
        load_weights(build("convnetjs_cifar"), "convnetjs_cifar", read_weights(bundle_path))
    file = read_weights(bundle_path)
    for text in ("{}", "[", "3"):
        damaged = {**file.metadata, "preprocessing": text}
        del damaged["crc32"]
        save_file(file.tensors, tmp_path / "damaged.safetensors", damaged)
        with pytest.raises(BundleError, match=r"damaged metadata .preprocessing"):
            read_weights(tmp_path / "damaged.safetensors")


def test_another_name_of_a_network_will_do(tmp_path):
    net = build("vgg_a", input_px=32, num_classes=2)
    report = load_weights(net, "vgg_a", file_of(build("vgg11", input_px=32, num_classes=2).state_dict()))
    assert report.used == 22


def test_values_that_are_not_finite_point_at_the_file():
    tensors = resnet18_in_torchvisions_names()
    tensors["conv1.weight"][0, 0, 0, 0] = float("inf")
    with pytest.raises(BundleError, match=r"1 difference: the file is damaged or its training diverged") as e:
        load_weights(build("resnet18"), "resnet18", file_of(tensors))
    assert "arguments" not in str(e.value)


def test_a_file_that_fits_the_published_build_alone_points_at_the_arguments():
    state = build("vgg11", num_classes=2).state_dict()
    with torch.device("meta"):
        net = build("vgg11", num_classes=2, input_px=32)
    with pytest.raises(BundleError, match="the file fits vgg11 as published, give it no arguments"):
        load_weights(net, "vgg11", file_of(state))


@pytest.mark.parametrize("num_classes", [7, 8, 9])
def test_a_class_layer_has_one_number_of_classes(num_classes):
    tensors = resnet18_in_torchvisions_names(num_classes=7)
    tensors["fc.bias"] = torch.zeros(8)
    with pytest.raises(BundleError, match=r"got 1 difference: .*fc.bias: 8 in the file"):
        load_weights(build("resnet18", num_classes=num_classes), "resnet18", file_of(tensors))


def test_the_rbf_output_has_ten_classes_and_no_layer_to_draw_anew():
    state = build("lenet5_rbf").state_dict()
    net = build("lenet5_rbf")
    report = load_weights(net, "lenet5_rbf", file_of(state, classes=tuple("abcdefghij")))
    assert (report.used, report.replaced, report.classes) == (13, (), tuple("abcdefghij"))
    other = dict(state) | {"F6.weight": torch.zeros(80, 120), "F6.bias": torch.zeros(80)}
    with pytest.raises(BundleError, match=r"F6.weight: 80x120 in the file, 84x120 here"):
        load_weights(net, "lenet5_rbf", file_of(other))
    pictures = Preprocessing(channels=1, height_px=32, width_px=32, resize_px=None, mean=(0.1,), std=(0.3,))
    bundle = convert(file_of(state), "lenet5_rbf", preprocessing=pictures)
    assert bundle.classes == tuple("0123456789")


# -- networks that their user wrote --------------------------------------------------------------------------

# Called as a listed network is, and nothing like it.
WRITTEN = """# resnet18
INPUT 8x8x3
CONV1: 4 3x3 filters at stride 1, pad 1
RELU1
BATCH NORM1
CONV2: 10 1x1 filters at stride 1, pad 0
BATCH NORM2
GLOBAL AVG POOL
"""
RGB8 = Preprocessing(channels=3, height_px=8, width_px=8, resize_px=None)


def test_a_written_network_is_never_taken_for_the_listed_one_of_its_name():
    listed = resnet18_in_torchvisions_names()
    with pytest.raises(BundleError, match="the file fits resnet18, load it into that") as caught:
        load_weights(build(WRITTEN), WRITTEN, file_of(listed))
    assert "BATCH" not in str(caught.value)
    fresh = build(WRITTEN).state_dict()
    state = {key: torch.rand_like(tensor) if tensor.ndim else tensor + 5 for key, tensor in fresh.items()}
    net = build(WRITTEN)
    report = load_weights(net, WRITTEN, file_of(state, path="resnet18-f37072fd.pth"))
    assert (report.format, report.preprocessing) == ("striate", None)
    assert all(torch.equal(net.state_dict()[key], state[key]) for key in state)


def test_the_layers_of_classes_of_a_written_network_are_drawn_anew_together():
    net = build(WRITTEN, num_classes=3)
    report = load_weights(net, WRITTEN, file_of(build(WRITTEN).state_dict()))
    assert len(report.replaced) == 2  # the last convolution and the normalisation behind it
    assert all(one.endswith("10 classes in the file, 3 here: drawn anew") for one in report.replaced)


def test_a_written_network_becomes_a_bundle_that_carries_its_text(tmp_path):
    (tmp_path / "resnet18.net").write_text(WRITTEN)
    state = build(WRITTEN, num_classes=2).state_dict()
    bundle = convert(file_of(state), str(tmp_path / "resnet18.net"), preprocessing=RGB8)
    assert bundle.net == find(WRITTEN).reference
    save_bundle(bundle, tmp_path / "mine.safetensors")
    (tmp_path / "resnet18.net").unlink()
    net, _ = open_bundle(tmp_path / "mine.safetensors")
    assert {key: tensor.shape for key, tensor in net.state_dict().items()} == {
        key: tensor.shape for key, tensor in state.items()
    }
    file = read_weights(tmp_path / "mine.safetensors")
    assert (guess(file), network_in(file).name) == ((), "resnet18")
    for reference in (bundle.net, WRITTEN, "resnet18 in another training"):  # the last one is unknown
        report = load_weights(build(WRITTEN, num_classes=2), reference, file)
        assert report.used == len(state)
        assert not [note for note in report.notes if "is not written as" in note]
    other = WRITTEN.replace("# resnet18", "# wider").replace("stride 1, pad 0", "stride 1, pad 1")
    report = load_weights(build(other, num_classes=2), other, file)
    assert "resnet18, is not written as wider is here" in report.notes[0]
    for net_name, words in (
        ("resnet18", "expected resnet18 in"),
        (WRITTEN.replace(": 4", ": 6"), "4x3x3x3 in"),
    ):
        with pytest.raises(BundleError, match=words) as caught:
            load_weights(build(net_name, num_classes=2), net_name, file)
        assert "FILTERS" not in str(caught.value).upper()
        assert "holds the written network resnet18" in str(caught.value)


def test_a_bundle_names_no_file_of_this_machine(tmp_path):
    (tmp_path / "mine.net").write_text(WRITTEN)
    header = Header(net=str(tmp_path / "mine.net"), classes=("a",), preprocessing=GREY)
    file = file_of({}, "striate bundle", header=header)
    assert network_in(file) is None
    with pytest.raises(BundleError, match="update striate, or take another file"):
        load_weights(build("convnetjs_cifar"), "convnetjs_cifar", file)


# -- convert -------------------------------------------------------------------------------------------------


def test_convert_makes_a_bundle_that_opens_and_scores_alike(tmp_path):
    tensors = resnet18_in_torchvisions_names(num_classes=3)
    path = tmp_path / "pets.safetensors"
    save_file(tensors, path)
    bundle = convert(read_weights(path), "resnet18", net_arguments={"input_px": 32})
    assert bundle.classes == ("0", "1", "2")
    assert bundle.net_arguments == {"input_px": 32}
    assert bundle.recipe == {}
    assert bundle.data["name"] == "pets.safetensors (torchvision weights)"
    assert "torchvision's preprocessing is assumed" in bundle.data["notes"][-1]
    assert set(bundle.versions) == {"striate", "torch", "numpy", "python"}
    assert "not measured" in bundle.metrics["note"]
    assert bundle.preprocessing.resize_px == 37  # 256/224 of 32
    save_bundle(bundle, tmp_path / "bundle.safetensors")
    net, _ = open_bundle(tmp_path / "bundle.safetensors")
    assert torch.equal(net.conv4_2.conv1.weight, tensors["layer3.1.conv1.weight"])
    assert net.fc.out_features == 3


def test_convert_names_imagenets_classes_or_the_files():
    tensors = resnet18_in_torchvisions_names()
    assert convert(file_of(tensors), "resnet18").classes == imagenet_classes()
    own = tuple(f"class {number}" for number in range(1000))
    assert convert(file_of(tensors, classes=own), "resnet18").classes == own
    assert convert(file_of(tensors, classes=("too", "few")), "resnet18").classes == imagenet_classes()


def test_convert_leaves_out_auxiliary_heads_that_the_file_lacks():
    state = build("googlenet_tv", num_classes=2, auxiliaries=False).state_dict()
    bundle = convert(file_of(state), "googlenet_tv", preprocessing=Preprocessing(**_rgb()))
    assert bundle.net_arguments == {"auxiliaries": False}
    assert set(bundle.state) == set(state)


def _rgb():
    return {"channels": 3, "height_px": 224, "width_px": 224, "resize_px": 256}


def test_convert_needs_a_foreign_file_and_a_preprocessing(bundle_path):
    with pytest.raises(UsageError, match="got a striate bundle: use it as it is"):
        convert(read_weights(bundle_path), "lenet_caffe")
    own = file_of(build("lenet_caffe").state_dict())
    with pytest.raises(BundleError, match=r"what images the weights were trained on.*`mean=0.5` `std=0.5`"):
        convert(own, "lenet_caffe")
    bundle = convert(own, "lenet_caffe", preprocessing=GREY)
    assert json.dumps(bundle.preprocessing.to_json())
    assert bundle.classes == tuple("0123456789")


def test_pictures_as_their_user_gives_them():
    pictures = given_preprocessing("resnet18", {"input_px": 64}, (0.4, 0.5, 0.6), (0.1, 0.2, 0.3), 72)
    assert pictures == Preprocessing(
        channels=3, height_px=64, width_px=64, resize_px=72, mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3)
    )
    tensors = resnet18_in_torchvisions_names(num_classes=2)
    bundle = convert(file_of(tensors), "resnet18", net_arguments={"input_px": 64}, preprocessing=pictures)
    assert bundle.preprocessing == pictures
    assert bundle.data["notes"] == []  # nothing is assumed any more


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        ((0.5,), (0.5,), "`mean`: expected 3 numbers, one a channel, got 0.5"),
        ((0.5, 0.5, 0.5), (0.5, 0.5), "`std`: expected 3 numbers"),
        ((123.68, 116.78, 103.94), (1, 1, 1), "`mean`: expected numbers on the 0..1 scale, got 123.68"),
        ((0.5, 0.5, float("nan")), (1, 1, 1), "`mean`: expected numbers on the 0..1 scale"),
        ((0.5, 0.5, 0.5), (1, 0, 1), "`std`: expected numbers above 0, got 0"),
    ],
)
def test_pictures_that_can_not_be(mean, std, words):
    with pytest.raises(UsageError, match=words):
        given_preprocessing("resnet18", None, mean, std, None)


@pytest.mark.parametrize("key", ["num_classes", "name"])
def test_the_file_tells_the_classes(key):
    with pytest.raises(UsageError, match=f"got {key}, which the file gives"):
        convert(file_of({}), "lenet_caffe", net_arguments={key: 3})


def test_a_declared_number_of_classes_takes_no_memory():
    state = dict(build("lenet_caffe").state_dict()) | {"ip2.weight": torch.zeros(10**9, 0)}
    with pytest.raises(
        BundleError, match=r"ip2.weight: 1000000000x0 in the file, 10x500 here|holds|elsewhere"
    ):
        convert(file_of(state), "lenet_caffe", preprocessing=GREY)
