"""The layers of the classic networks in NumPy, written from their definitions: the oracle of these tests.

Arrays are ``C x H x W`` of one image, in float64.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def conv(maps, weight, bias=None, *, stride=1, padding=0):
    """Cross-correlation: ``out[k, i, j] = sum weight[k, c, a, b] maps[c, i s + a, j s + b] + bias[k]``."""
    padded = np.pad(maps, ((0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(padded, weight.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    out = np.tensordot(weight, windows, axes=([1, 2, 3], [0, 3, 4]))
    return out if bias is None else out + bias[:, None, None]


def max_pool(maps):
    """Largest of each 2x2 window."""
    channels, height, width = maps.shape
    return maps.reshape(channels, height // 2, 2, width // 2, 2).max(axis=(2, 4))


def batch_norm(maps, state, name, eps=1e-5):
    """Test-time batch normalisation with the stored statistics."""
    gamma, beta, mean, variance = (
        state[f"{name}.{key}"][:, None, None] for key in ("weight", "bias", "running_mean", "running_var")
    )
    return gamma * (maps - mean) / np.sqrt(variance + eps) + beta


def relu(maps):
    """Negative values to zero."""
    return np.where(maps > 0, maps, 0.0)


def arrays(net):
    """Every parameter and buffer of a torch network, as float64."""
    return {key: value.detach().double().numpy() for key, value in net.state_dict().items()}
