"""torchvision as a second opinion, where it is installed (``pip install --no-deps torchvision==0.28.0``)."""

import pytest
import torch

from striate.nets import build

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def models():
    """torchvision.models, also where its compiled operators don't load (CPU builds of torch)."""
    own = torch.library.register_fake

    def lenient(name, *arguments, **keywords):
        if isinstance(name, str) and name.startswith("torchvision::"):
            return lambda function: function
        return own(name, *arguments, **keywords)

    torch.library.register_fake = lenient
    try:
        return pytest.importorskip("torchvision.models")
    finally:
        torch.library.register_fake = own


def test_vgg16_gives_torchvisions_logits_with_its_weights(models):
    torch.manual_seed(0)
    theirs = models.vgg16(weights=None).eval()
    ours = build("vgg16").eval()
    tensors = list(theirs.state_dict().values())
    assert [t.shape for t in ours.state_dict().values()] == [t.shape for t in tensors]
    ours.load_state_dict(dict(zip(ours.state_dict(), tensors, strict=True)))
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.allclose(ours(images), theirs(images), atol=1e-5)
