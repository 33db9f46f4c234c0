from collections.abc import Iterator
from types import ModuleType

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded_single_thread() -> Iterator[None]:
    """Fix the weights; use one thread, because small layers on busy cores wait for the other threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1998)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def torchvision_models() -> ModuleType:
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
