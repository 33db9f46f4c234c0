"""What network files share: layers in a chain, the input check, LRN, the parts of LeNet-5 and ResNet."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from striate.core.errors import InputSizeError, UsageError


def check_input(images: Tensor, expected: tuple[int, int, int], name: str) -> None:
    """Refuse images of a size that a network does not take.

    Does nothing while ``torch.jit.trace`` or ``torch.fx`` records the network: sizes are not numbers there.

    Args:
        images: ``N x C x H x W``.
        expected: channels, height and width in pixels.
        name: the network's name, for the message.

    Raises:
        InputSizeError: the images have another size, with the remedy.
    """
    if torch.jit.is_tracing() or isinstance(images, torch.fx.Proxy):  # type: ignore[attr-defined]
        return
    got = tuple(images.shape)
    if len(got) == 4 and got[1:] == expected:
        return
    channels, height, width = expected
    if len(got) != 4:
        got_text = f"a tensor of {len(got)} axes, {_by(got)}"
        remedy = "pass a batch of N images" + (", images[None] for one image" if got == expected else "")
    else:
        got_text = _by(got[1:])
        steps = []
        if got[1] != channels:
            steps.append(f"convert them to {_CHANNEL_NAMES.get(channels, f'{channels} channels')}")
        if got[2:] != (height, width):
            steps.append(f"resize or pad them to {height}x{width} px")
        remedy = " and ".join(steps)
    raise InputSizeError(f"{name} expects images of {_by(expected)}, got {got_text}: {remedy}")


_CHANNEL_NAMES = {1: "grey (1 channel)", 3: "RGB (3 channels)"}


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


class Chain(nn.Sequential):
    """Named layers applied in order, after a check of the images' size.

    A slice (``net[:4]``) is a plain ``nn.Sequential`` of the same layers, without the check.

    Attributes:
        name: the network's name.
        input_shape: channels, height and width in pixels of the images that it takes.
    """

    def __init__(self, name: str, input_shape: tuple[int, int, int], layers: Mapping[str, nn.Module]) -> None:
        super().__init__(OrderedDict(layers))
        self.name = name
        self.input_shape = input_shape

    def __getitem__(self, index: slice | int) -> nn.Module:
        return nn.Sequential(OrderedDict(self._modules))[index]

    def forward(self, images: Tensor) -> Tensor:
        """Map images to scores.

        Args:
            images: ``N x C x H x W``, where ``C x H x W`` is ``input_shape``.

        Returns:
            What the last layer gives, ``N x num_classes`` for a whole network.

        Raises:
            InputSizeError: the images have another size.
        """
        check_input(images, self.input_shape, self.name)
        return super().forward(images)


class LocalResponseNorm(nn.Module):
    """Divide each value by a power of the energy of its neighbours: the maps next to its own, same pixel.

    ``b_i = a_i / (k + alpha sum_j a_j^2)^beta``, the sum over the ``size`` maps around map i (fewer at the
    ends). ``alpha`` multiplies the sum, as in the paper. Other programs divide it by ``size`` first: Caffe's
    and PyTorch's alpha of 1e-4 is 2e-5 here.

    Paper: Krizhevsky, Sutskever, Hinton 2012, section 3.3: size 5, alpha 1e-4, beta 0.75, k 2.
    Departures: none. ``towers`` splits the maps into groups that do not see each other, as on the paper's two
        GPUs.
    """

    def __init__(self, *, size: int = 5, alpha: float, beta: float = 0.75, k: float, towers: int = 1) -> None:
        super().__init__()
        if size < 1 or size % 2 == 0:
            raise UsageError(
                f"expected an odd number of maps to normalise over, got {size}: use 5, the paper's"
            )
        self.size, self.alpha, self.beta, self.k, self.towers = size, alpha, beta, k, towers

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise ``N x C x H x W`` maps; the shape stays."""
        energies = []
        half = self.size // 2
        chunks = maps.square().chunk(self.towers, dim=1)
        for tower in range(self.towers):  # torch.fx follows an index, not an iteration
            squares = chunks[tower]
            padded = functional.pad(squares, (0, 0, 0, 0, half, half))
            energy = padded.narrow(1, 0, squares.shape[1])
            for shift in range(1, self.size):
                energy = energy + padded.narrow(1, shift, squares.shape[1])
            energies.append(energy)
        energy = energies[0] if self.towers == 1 else torch.cat(energies, dim=1)
        return maps * (self.k + self.alpha * energy).pow(-self.beta)

    def extra_repr(self) -> str:
        """Say the numbers that the printed network shows."""
        towers = f", towers={self.towers}" if self.towers > 1 else ""
        return f"size={self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}{towers}"


class ScaledTanh(nn.Module):
    """The squashing function ``f(a) = A tanh(S a)``, A = 1.7159 and S = 2/3, so that ``f(+-1) = +-1``.

    Paper: LeCun, Bottou, Bengio, Haffner 1998, section II.B and appendix A.
    Departures: none.
    """

    A = 1.7159
    S = 2 / 3

    def forward(self, sums: Tensor) -> Tensor:
        """Squash every value to the open interval (-1.7159, 1.7159); the shape stays."""
        return self.A * torch.tanh(self.S * sums)


class Subsampling(nn.Module):
    """Halve height and width: the sum of each 2x2 window, times one coefficient and plus one bias per map.

    The squashing function that follows it in the paper is a layer of its own.

    Paper: LeCun et al. 1998, section II.B, layers S2 and S4.
    Departures: none. ``coefficient`` and ``bias`` are drawn from the paper's range for a unit of 4 inputs,
        +-2.4/4.
    """

    def __init__(self, num_maps: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(num_maps))
        self.bias = nn.Parameter(torch.empty(num_maps))
        draw_lecun(self.coefficient, self.bias, fan_in=4)

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``N x C x H x W`` to ``N x C x H/2 x W/2``; a last odd row or column is not read."""
        sums = 4 * functional.avg_pool2d(maps, 2, stride=2)  # exact: 4 is a power of 2
        return sums * self.coefficient[:, None, None] + self.bias[:, None, None]


class PartialConv2d(nn.Module):
    """A convolution whose output maps each read their own choice of input maps; no padding, stride 1.

    Only the kernels of existing links are parameters: ``weight`` is ``num_links x k x k``, in the order of
    the table. The forward pass lays them into a dense kernel that is zero elsewhere, because one dense
    convolution is faster than many small ones; the gradient reaches the existing links only.

    Paper: LeCun et al. 1998, section II.B and Table I (layer C3).
    Departures: none.
    """

    link_slots: Tensor

    def __init__(self, in_maps: int, links: Sequence[Sequence[int]], kernel_px: int) -> None:
        """Set up the links; weights and biases are drawn from the paper's range, unit by unit.

        Args:
            in_maps: number of input maps.
            links: for each output map, the numbers of the input maps that it reads, each once.
            kernel_px: side of the kernel in pixels.

        Raises:
            UsageError: a map has no link, a link twice, or a link outside ``range(in_maps)``.
        """
        super().__init__()
        for output, inputs in enumerate(links):
            if not inputs or len(set(inputs)) != len(inputs) or not set(inputs) <= set(range(in_maps)):
                raise UsageError(
                    f"expected output map {output} to read different maps of 0 to {in_maps - 1},"
                    f" got {list(inputs)}: correct the table of links"
                )
        self.in_maps = in_maps
        self.kernel_px = kernel_px
        self.links = tuple(tuple(inputs) for inputs in links)
        slots = [output * in_maps + source for output, inputs in enumerate(self.links) for source in inputs]
        self.register_buffer("link_slots", torch.tensor(slots), persistent=False)
        self.weight = nn.Parameter(torch.empty(len(slots), kernel_px, kernel_px))
        self.bias = nn.Parameter(torch.empty(len(self.links)))
        start = 0
        for output, inputs in enumerate(self.links):
            stop = start + len(inputs)
            fan_in = len(inputs) * kernel_px**2
            draw_lecun(self.weight[start:stop], self.bias[output], fan_in=fan_in)
            start = stop

    @property
    def macs_per_position(self) -> int:
        """Multiply-accumulates at one output position: one for each weight, though a dense kernel runs."""
        return self.weight.numel()

    def dense_weight(self) -> Tensor:
        """Return the kernel of the equivalent full convolution, zero where no link is.

        Returns:
            ``out_maps x in_maps x k x k``.
        """
        num_slots = len(self.links) * self.in_maps
        empty = self.weight.new_zeros(num_slots, self.kernel_px, self.kernel_px)
        return empty.index_copy(0, self.link_slots, self.weight).unflatten(0, (len(self.links), self.in_maps))

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``N x in_maps x H x W`` to ``N x out_maps x (H - k + 1) x (W - k + 1)``."""
        return functional.conv2d(maps, self.dense_weight(), self.bias)

    def extra_repr(self) -> str:
        """Say the numbers that the printed network shows."""
        return f"{self.in_maps}, {len(self.links)}, kernel_px={self.kernel_px}, links={len(self.weight)}"


class RbfOutput(nn.Module):
    """Euclidean radial basis function units with fixed centres: one code per class, no trainable parameter.

    ``codes`` (``num_classes x num_features``) is a buffer and is saved with the weights.

    Paper: LeCun et al. 1998, equation 7: ``y_i = sum_j (x_j - w_ij)^2``, and the smallest wins.
    Departures: returns ``-y_i``, so that the largest wins as everywhere in striate.
    """

    codes: Tensor

    def __init__(self, codes: Tensor) -> None:
        super().__init__()
        self.register_buffer("codes", codes)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``N x num_features`` to minus the squared distance to each code, ``N x num_classes``."""
        return -(features[:, None, :] - self.codes).square().sum(dim=2)


@torch.no_grad()
def draw_lecun(*parameters: Tensor, fan_in: int) -> None:
    """Fill tensors from the uniform distribution on +-2.4/fan_in, with torch's global random numbers.

    Args:
        parameters: weights, and the bias, of units that have the same number of inputs.
        fan_in: number of inputs of one unit.

    Paper: LeCun et al. 1998, appendix A.
    Departures: none for weights. The paper does not name biases: they are drawn alike, and not counted in
        ``fan_in``.
    """
    for parameter in parameters:
        parameter.uniform_(-2.4 / fan_in, 2.4 / fan_in)


ShortcutOption = Literal["A", "B", "C"]
"""How a shortcut goes where the shape changes, by the letters of He et al. 2015, section 4.1.

A: zeros for the new channels (``ShortcutA``). B: a projection. C: a projection in every block, also where the
shape stays. With A and B the shortcut is the identity where the shape stays.
"""


class ShortcutA(nn.Module):
    """Option A, the shortcut without parameters: every ``stride``-th pixel, and zeros for the new channels.

    Paper: He et al. 2015, sections 3.3 and 4.2.
    Departures: the paper does not say where the zero channels go; they follow the copied ones.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.new_channels = out_channels - in_channels
        self.stride = stride

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``N x in x H x W`` to ``N x out x ceil(H/stride) x ceil(W/stride)``."""
        return functional.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))

    def extra_repr(self) -> str:
        """Say the numbers that the printed network shows."""
        return f"new_channels={self.new_channels}, stride={self.stride}"


def make_shortcut(in_channels: int, out_channels: int, *, stride: int, option: ShortcutOption) -> nn.Module:
    """Build the shortcut of a residual block: identity, ``ShortcutA``, or the projection ``conv``, ``bn``.

    Paper: He et al. 2015, sections 3.3 and 4.1, equations 1 and 2; batch normalisation after each
        convolution (section 3.4).
    Departures: none.
    """
    same_shape = stride == 1 and in_channels == out_channels
    if same_shape and option != "C":
        return nn.Identity()
    if option == "A":
        return ShortcutA(in_channels, out_channels, stride=stride)
    layers: dict[str, nn.Module] = {
        "conv": nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
        "bn": nn.BatchNorm2d(out_channels),
    }
    return nn.Sequential(OrderedDict(layers))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation, plus the shortcut, then ReLU.

    Paper: He et al. 2015, Fig. 2, Fig. 5 (left) and equations 1 and 2.
    Departures: none.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, shortcut: ShortcutOption) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, out_channels, stride=stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv3x3(out_channels, out_channels, stride=1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = make_shortcut(in_channels, out_channels, stride=stride, option=shortcut)
        self.relu2 = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``N x in x H x W`` to ``N x out x ceil(H/stride) x ceil(W/stride)``."""
        branch = self.relu1(self.bn1(self.conv1(maps)))
        branch = self.bn2(self.conv2(branch))
        return self.relu2(branch + self.shortcut(maps))


def plain_block(in_channels: int, out_channels: int, *, stride: int) -> nn.Sequential:
    """Build a ``ResidualBlock`` without its shortcut.

    Paper: He et al. 2015, sections 3.3 and 4.2.
    Departures: none.
    """
    layers: dict[str, nn.Module] = {
        "conv1": _conv3x3(in_channels, out_channels, stride=stride),
        "bn1": nn.BatchNorm2d(out_channels),
        "relu1": nn.ReLU(),
        "conv2": _conv3x3(out_channels, out_channels, stride=1),
        "bn2": nn.BatchNorm2d(out_channels),
        "relu2": nn.ReLU(),
    }
    return nn.Sequential(OrderedDict(layers))


def _conv3x3(in_channels: int, out_channels: int, *, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)


def start_residual(net: nn.Module) -> None:
    """Draw every convolution from He's normal distribution scaled by fan-out; zero the last layer's bias.

    The rest keeps PyTorch's start: batch normalisation with scale 1 and shift 0, the fully connected layer's
    weights from a uniform distribution.

    Paper: He et al. 2015, sections 3.4 and 4.2, which cite He et al. 2015 (arXiv 1502.01852), equation 14.
    Departures: choices where the paper is silent, see the entries of the networks.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
