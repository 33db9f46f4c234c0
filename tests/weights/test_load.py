"""Loading: what is refused, what is kept, what is reported; converting to a bundle."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from striate.core.errors import BundleError, UsageError
from striate.data.preprocess import Preprocessing
from striate.job.bundles import open_bundle
from striate.nets import build
from striate.weights.bundle import Bundle, save_bundle
from striate.weights.imagenet import imagenet_classes
from striate.weights.load import convert, load_weights
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
    assert message.endswith("the file fits resnet18, load it into that")


def test_a_file_of_something_else():
    with pytest.raises(BundleError, match=r"got encoder.weight, head.bias: check the network's name"):
        load_weights(
            build("convnetjs_cifar"),
            "convnetjs_cifar",
            file_of({"encoder.weight": torch.zeros(1), "head.bias": torch.zeros(1)}),
        )
    with pytest.raises(BundleError, match=r"got a graph \(onnx\)"):
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
        BundleError, match=r"got 1 difference: aux1.fc1.weight is missing, 1024x2048 expected"
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
        file.metadata["preprocessing"] = text
        with pytest.raises(BundleError, match="damaged metadata"):
            load_weights(build("lenet_caffe", num_classes=2), "lenet_caffe", file)


def test_another_name_of_a_network_will_do(tmp_path):
    net = build("vgg_a", input_px=32, num_classes=2)
    report = load_weights(net, "vgg_a", file_of(build("vgg11", input_px=32, num_classes=2).state_dict()))
    assert report.used == 22


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
    assert set(bundle.versions) == {"striate", "torch", "python"}
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
    with pytest.raises(BundleError, match="what pictures the weights were trained on"):
        convert(own, "lenet_caffe")
    bundle = convert(own, "lenet_caffe", preprocessing=GREY)
    assert json.dumps(bundle.preprocessing.to_json())
    assert bundle.classes == tuple("0123456789")
