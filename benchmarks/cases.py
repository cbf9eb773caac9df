"""The speed workloads as numbers: sizes, weights, episodes, operations.

NumPy alone: the JAX and the PyTorch side both start from here, and neither
loads the other's framework. Layouts are those of JAX: channels last, kernels
[*window, in, out], parameters flat by path.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

OUTER_RATE = 1e-3
BATCH_EPSILON, GROUP_EPSILON = 1e-5, 1e-6
BLOCKS, LEVELS, GROUPS = 4, 3, 8


@dataclasses.dataclass(frozen=True)
class Case:
    """One workload.

    Attributes:
      name: as in results.
      network: "conv4", "mlp" or "unet".
      shape: of one input, channels last.
      width: channels of conv4, hidden units of mlp, base channels of unet.
      tasks: tasks per meta-iteration.
      way: classes of a task; of a voxel for "unet", which has one volume
        per shot.
      shot: support examples per class.
      query: query examples per class.
      steps: inner steps.
      size: inner step size, so small that no inner loop diverges: it would
        blow rounding up and libraries could not be compared.
    """

    name: str
    network: str
    shape: tuple[int, ...]
    width: int
    tasks: int
    way: int
    shot: int
    query: int
    steps: int
    size: float

    def examples(self, shot: int) -> int:
        """Returns how many examples `shot` per class make."""
        return shot if self.network == "unet" else self.way * shot


CASES = {
    case.name: case
    for case in (
        Case("W1", "conv4", (28, 28, 1), 64, 32, 5, 1, 5, 5, 0.1),
        Case("W2", "mlp", (384,), 256, 32, 5, 5, 5, 5, 0.01),
        Case("W3", "unet", (32, 32, 32, 1), 8, 2, 2, 1, 1, 3, 0.1),
        Case("W4", "conv4", (64, 150, 1), 64, 8, 5, 1, 5, 5, 0.01),
    )
}


class Layer(NamedTuple):
    """A linear layer.

    Attributes:
      path: of its parameters.
      kernel: shape [*window, in, out].
      positions: outputs per example and channel.
      norm: path of the norm layer behind it, or "".
    """

    path: str
    kernel: tuple[int, ...]
    positions: int
    norm: str = ""


def layers(case: Case) -> list[Layer]:
    """Lists the linear layers of a network, the one that reads data first."""
    channels, width = case.shape[-1], case.width
    if case.network == "mlp":
        return [
            Layer("body/dense0", (channels, width), 1),
            Layer("head", (width, case.way), 1),
        ]
    if case.network == "unet":
        return _unet(case)
    found = []
    space = case.shape[:-1]
    for i in range(BLOCKS):
        norm = f"body/norm{i}/BatchNorm_0"
        kernel = (3, 3, channels, width)
        found.append(Layer(f"body/conv{i}", kernel, math.prod(space), norm))
        channels, space = width, tuple(n // 2 for n in space)
    features = math.prod(space) * width
    return [*found, Layer("head", (features, case.way), 1)]


def _unet(case):
    found = []
    voxels = math.prod(case.shape[:-1])

    def block(name, level, channels):
        width = case.width * 2**level
        for i in range(2):
            kernel = (3, 3, 3, channels if i == 0 else width, width)
            where = voxels // 8**level
            path, norm = f"conv_{name}_{i}", f"norm_{name}_{i}/group"
            found.append(Layer(path, kernel, where, norm))
        return width

    channels = case.shape[-1]
    for level in range(LEVELS):
        channels = block(f"down{level}", level, channels)
    for level in reversed(range(LEVELS - 1)):
        channels = block(f"up{level}", level, channels + case.width * 2**level)
    return [*found, Layer("head", (1, 1, 1, channels, case.way), voxels)]


def weights(case: Case, seed: int = 0) -> dict[str, np.ndarray]:
    """Draws parameters in float64, flat by path."""
    rng = np.random.default_rng(seed)
    drawn = {}
    for layer in layers(case):
        out = layer.kernel[-1]
        fan = math.prod(layer.kernel[:-1])
        gain = 1 if layer.path == "head" else 2
        kernel = rng.normal(size=layer.kernel) * math.sqrt(gain / fan)
        drawn[f"{layer.path}/kernel"] = kernel
        drawn[f"{layer.path}/bias"] = 0.1 * rng.normal(size=out)
        if layer.norm:
            drawn[f"{layer.norm}/scale"] = 1 + 0.1 * rng.normal(size=out)
            drawn[f"{layer.norm}/bias"] = 0.1 * rng.normal(size=out)
    return drawn


class Side(NamedTuple):
    """Support or query of all tasks.

    Attributes:
      inputs: [T, B, *shape] float64.
      targets: [T, B] or [T, B, *space] int32.
    """

    inputs: np.ndarray
    targets: np.ndarray


def episodes(case: Case, seed: int = 1) -> tuple[Side, Side]:
    """Draws support and query of all tasks."""
    rng = np.random.default_rng(seed)
    if case.network == "unet":
        return _balls(case, rng, case.shot), _balls(case, rng, case.query)
    patterns = rng.normal(size=(case.tasks, case.way, *case.shape))

    def side(shot):
        labels = np.repeat(np.arange(case.way, dtype=np.int32), shot)
        noise = rng.normal(size=(case.tasks, len(labels), *case.shape))
        targets = np.tile(labels, (case.tasks, 1))
        return Side(patterns[:, labels] + noise, targets)

    return side(case.shot), side(case.query)


def _balls(case, rng, volumes):
    """Volumes of noise with a brighter ball, which is the mask."""
    space = case.shape[:-1]
    grid = np.stack(np.meshgrid(*map(np.arange, space), indexing="ij"), -1)
    shape = (case.tasks, volumes, 1, 1, 1)
    centre = rng.uniform(0.3, 0.7, (*shape, len(space))) * space
    radius = rng.uniform(0.15, 0.3, shape) * min(space)
    inside = ((grid - centre) ** 2).sum(-1) < radius**2
    noise = rng.normal(size=inside.shape)
    inputs = (noise + 2 * inside)[..., None]
    return Side(inputs, inside.astype(np.int32))


def sketch(case: Case, gradient: Callable[[str], np.ndarray]) -> list[float]:
    """Projects a gradient on 16 fixed random directions.

    The relative distance of two sketches is near that of the gradients, and
    16 numbers are easy to carry between processes.

    Args:
      case: the workload.
      gradient: path -> gradient in the layout of `weights`.
    """
    rng = np.random.default_rng(2)
    total = np.zeros(16)
    for path, value in weights(case).items():
        leaf = np.asarray(gradient(path), np.float64)
        assert leaf.shape == value.shape, path
        total += rng.normal(size=(16, leaf.size)) @ leaf.reshape(-1)
    return total.tolist()


def operations(case: Case, exact: bool = True) -> int:
    """Counts the floating-point operations one meta-iteration cannot avoid.

    Only convolutions and matrix products count, 2 per multiply-add. With f
    for a layer's forward pass, the gradient of one inner step takes 3 f
    (outputs, gradient by the kernel, gradient by the inputs). Each of these
    is bilinear, so going back through it takes two products of the same
    size: 6 f more, 9 f in all. The layer that reads the data has no gradient
    by its inputs, nor has anything that goes through the data: f and f for
    the step, f and f for the way back, 4 f in all. The query loss takes 3 f
    and 2 f. First order leaves the way back out.

    What a program computes twice to save memory ("remat", "mixed") does not
    count, so rates compare programs that do the same job.
    """
    support = case.examples(case.shot) * case.steps
    query = case.examples(case.query)
    total = 0
    for i, layer in enumerate(layers(case)):
        each = 2 * math.prod(layer.kernel) * layer.positions
        once = 2 if i == 0 else 3
        inner = once + (0 if not exact else 2 if i == 0 else 6)
        total += each * (support * inner + query * once)
    return case.tasks * total
