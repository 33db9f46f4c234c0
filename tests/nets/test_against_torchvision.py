"""torchvision as a second opinion, where it is installed (``pip install --no-deps torchvision==0.28.0``)."""

import pytest
import torch

from striate.nets import build

pytestmark = pytest.mark.peer


def test_vgg16_gives_torchvisions_logits_with_its_weights(torchvision_models):
    torch.manual_seed(0)
    theirs = torchvision_models.vgg16(weights=None).eval()
    ours = build("vgg16").eval()
    tensors = list(theirs.state_dict().values())
    assert [t.shape for t in ours.state_dict().values()] == [t.shape for t in tensors]
    ours.load_state_dict(dict(zip(ours.state_dict(), tensors, strict=True)))
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.allclose(ours(images), theirs(images), atol=1e-5)
