"""The networks and data of the speed workloads in PyTorch."""

from __future__ import annotations

import cases
import numpy as np
import torch
import torch.nn.functional as F
from cases import Case
from torch import nn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class BatchFormula(nn.Module):
    """Batch-statistics norm from elementary operations.

    For `torch.func` alone: in torch 2.13 the second derivative of
    `F.batch_norm` under vmap is wrong. In float64 parameters of a narrow W1
    get meta-gradients that are off by 2 to 14 %; with this formula, as
    without vmap, they are right to 1e-14.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalises [B, C, H, W]."""
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        factor = self.weight * torch.rsqrt(variance + cases.BATCH_EPSILON)
        offset = self.bias - mean * factor
        return x * factor[:, None, None] + offset[:, None, None]


class Network(nn.Module):
    """A network whose layers carry the paths of the common weights."""

    def __init__(self, case: Case, formula: bool = False):
        super().__init__()
        self.network = case.network
        found: dict[str, nn.Module] = {}
        for layer in cases.layers(case):
            *window, fan, out = layer.kernel
            if not window:
                found[layer.path] = nn.Linear(fan, out)
                continue
            kind = nn.Conv3d if len(window) == 3 else nn.Conv2d
            pads = [n // 2 for n in window]
            found[layer.path] = kind(fan, out, tuple(window), padding=pads)
            if layer.norm and case.network == "unet":
                groups = min(cases.GROUPS, out)
                found[layer.norm] = nn.GroupNorm(
                    groups, out, cases.GROUP_EPSILON
                )
            elif layer.norm and formula:
                found[layer.norm] = BatchFormula(out)
            elif layer.norm:
                found[layer.norm] = nn.BatchNorm2d(
                    out, cases.BATCH_EPSILON, track_running_stats=False
                )
        self.layers = nn.ModuleDict(found)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, *space] to logits [B, N] or [B, N, *space]."""
        return getattr(self, f"_{self.network}")(x)

    def _mlp(self, x):
        return self.layers["head"](F.relu(self.layers["body/dense0"](x)))

    def _conv4(self, x):
        for i in range(cases.BLOCKS):
            x = self.layers[f"body/conv{i}"](x)
            x = F.relu(self.layers[f"body/norm{i}/BatchNorm_0"](x))
            x = F.max_pool2d(x, 2)
        return self.layers["head"](x.flatten(1))

    def _unet(self, x):
        def block(x, name):
            for i in range(2):
                x = self.layers[f"conv_{name}_{i}"](x)
                x = F.relu(self.layers[f"norm_{name}_{i}/group"](x))
            return x

        skips = []
        for level in range(cases.LEVELS):
            x = block(F.max_pool3d(x, 2) if level else x, f"down{level}")
            skips.append(x)
        for level in reversed(range(cases.LEVELS - 1)):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(torch.cat([skips[level], x], 1), f"up{level}")
        return self.layers["head"](x)


def make_network(
    case: Case, dtype: torch.dtype, formula: bool = False
) -> Network:
    """Builds a network that holds the common weights."""
    network = Network(case, formula).to(dtype)
    with torch.no_grad():
        for path, value in cases.weights(case).items():
            value = to_torch_layout(case, path, value)
            parameter(network, path).copy_(torch.tensor(value, dtype=dtype))
    return network.to(DEVICE)


def parameter(network: Network, path: str) -> nn.Parameter:
    """Finds the parameter that a common path names."""
    owner, _, kind = path.rpartition("/")
    return getattr(
        network.layers[owner], "bias" if kind == "bias" else "weight"
    )


def _map(case):
    """Height and width of the last map, which the head reads."""
    return tuple(n // 2**cases.BLOCKS for n in case.shape[:-1])


def to_torch_layout(case: Case, path: str, value: np.ndarray) -> np.ndarray:
    """Moves a common weight to PyTorch's layout."""
    if not path.endswith("kernel"):
        return value
    if case.network == "conv4" and path == "head/kernel":
        # Its rows count height, width, channels; here channels come first.
        value = value.reshape(*_map(case), case.width, case.way)
        value = value.transpose(2, 0, 1, 3).reshape(-1, case.way)
    return np.moveaxis(value, (-1, -2), (0, 1)).copy()


def from_torch_layout(case: Case, path: str, value: np.ndarray) -> np.ndarray:
    """Moves a weight or its gradient to the common layout."""
    if not path.endswith("kernel"):
        return value
    value = np.moveaxis(value, (0, 1), (-1, -2))
    if case.network == "conv4" and path == "head/kernel":
        value = value.reshape(case.width, *_map(case), case.way)
        value = value.transpose(1, 2, 0, 3).reshape(-1, case.way)
    return value


def make_data(case: Case, dtype: torch.dtype) -> list[torch.Tensor]:
    """Returns support inputs, support targets, query inputs, query targets."""
    tensors = []
    for side in cases.episodes(case):
        inputs = torch.tensor(np.moveaxis(side.inputs, -1, 2), dtype=dtype)
        if case.network == "mlp":
            inputs = torch.tensor(side.inputs, dtype=dtype)
        targets = torch.tensor(side.targets, dtype=torch.int64)
        tensors += [inputs.contiguous().to(DEVICE), targets.to(DEVICE)]
    return tensors
