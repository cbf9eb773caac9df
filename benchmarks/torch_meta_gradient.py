"""MAML's exact meta-gradient in PyTorch, as numbers for a test.

    python benchmarks/torch_meta_gradient.py tests/data/torch_meta_gradient.npz

Needs torch and numpy and imports nothing of htmaml_jax: `test_against_torch`
compares two implementations that share no code. The file holds, in the
layouts of htmaml_jax (images NHWC, kernels HWIO, dense [in, out]):

    param/PATH  alpha/PATH        parameters, and step sizes [K] of each
    CASE/support/inputs           also targets and mask; the same for query
    CASE/loss64                   query loss after K steps
    CASE/grad64/PATH              its gradient by the parameters
    CASE/grad64_alpha/PATH        its gradient by the step sizes

and everything that ends in 64 once more for float32. Where the case "padded"
has mask 0, PyTorch is given nothing at all: examples and class slots without
support are left out, not masked.
"""

from __future__ import annotations

import argparse
import os

import numpy as np
import torch
import torch.nn.functional as F

SIZE, WIDTH, BLOCKS, GROUPS, EPSILON = 16, 16, 2, 8, 1e-6
WAY, SHOT, QUERY, STEPS = 5, 1, 2, 3


def draw_weights(rng: np.random.Generator) -> tuple[dict, dict]:
    """Draws parameters and step sizes, flat by path, in float64."""
    params = {}
    channels = 1
    for i in range(BLOCKS):
        shape = (3, 3, channels, WIDTH)
        kernel = rng.normal(size=shape) * np.sqrt(2 / (9 * channels))
        params[f"body/conv{i}/kernel"] = kernel
        params[f"body/conv{i}/bias"] = 0.1 * rng.normal(size=WIDTH)
        # Below 1, so that one step does not already saturate the softmax:
        # later steps would then have gradients too small to test.
        scale = 0.3 * (1 + 0.2 * rng.normal(size=WIDTH))
        params[f"body/norm{i}/group/scale"] = scale
        params[f"body/norm{i}/group/bias"] = 0.1 * rng.normal(size=WIDTH)
        channels = WIDTH
    features = (SIZE // 2**BLOCKS) ** 2 * WIDTH
    head = rng.normal(size=(features, 1)) / np.sqrt(features)
    params["head/kernel"] = head
    params["head/bias"] = 0.1 * rng.normal(size=1)
    alpha = {path: rng.uniform(0.05, 0.2, STEPS) for path in params}
    return params, alpha


def draw_cases(rng: np.random.Generator) -> dict[str, dict]:
    """Draws one episode, and the same with padding in both its sides."""
    patterns = rng.normal(size=(WAY, SIZE, SIZE, 1))

    def side(shot):
        targets = np.repeat(np.arange(WAY, dtype=np.int32), shot)
        noise = rng.normal(size=(WAY * shot, SIZE, SIZE, 1))
        return {
            "inputs": patterns[targets] + noise,
            "targets": targets,
            "mask": np.ones(WAY * shot, np.float32),
        }

    def pad(batch, rows):
        batch = {name: value.copy() for name, value in batch.items()}
        batch["mask"][rows] = 0
        # As a loader pads: with a class that exists, and not with zeros.
        batch["targets"][rows] = 0
        return batch

    full = {"support": side(SHOT), "query": side(QUERY)}
    padded = {
        # Slot 3 is left without support, hence without real queries.
        "support": pad(full["support"], [3]),
        "query": pad(full["query"], [1, 6, 7]),
    }
    return {"full": full, "padded": padded}


def to_torch(value: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """Moves an array to torch in its own layout."""
    return torch.tensor(np.asarray(value), dtype=dtype)


def apply(params: dict, inputs: torch.Tensor) -> torch.Tensor:
    """Maps NCHW inputs to logits."""
    x = inputs
    for i in range(BLOCKS):
        kernel = params[f"body/conv{i}/kernel"].permute(3, 2, 0, 1)
        x = F.conv2d(x, kernel, params[f"body/conv{i}/bias"], padding="same")
        scale = params[f"body/norm{i}/group/scale"]
        bias = params[f"body/norm{i}/group/bias"]
        x = F.relu(F.group_norm(x, GROUPS, scale, bias, EPSILON))
        x = F.max_pool2d(x, 2)
    x = x.permute(0, 2, 3, 1).flatten(1)
    return F.linear(x, params["head/kernel"].T, params["head/bias"])


def meta_loss(
    params: dict, alpha: dict, case: dict, exact: bool = True
) -> torch.Tensor:
    """Returns the query loss after K steps on the support set.

    Args:
      params: shared parameters, with one column in the head.
      alpha: step sizes [K] by path.
      case: support and query as (inputs NCHW, targets), nothing padded.
      exact: False drops second derivatives (first-order MAML).
    """
    classes = case["classes"]
    adapted = {
        path: value.repeat_interleave(classes, dim=-1)
        if path.startswith("head/")
        else value
        for path, value in params.items()
    }

    def loss(weights, side):
        inputs, targets = case[side]
        return F.cross_entropy(apply(weights, inputs), targets)

    for k in range(STEPS):
        gradient = torch.func.grad(loss)(adapted, "support")
        if not exact:
            gradient = {path: g.detach() for path, g in gradient.items()}
        adapted = {
            path: value - alpha[path][k] * gradient[path]
            for path, value in adapted.items()
        }
    return loss(adapted, "query")


def without_padding(case: dict, dtype: torch.dtype) -> dict:
    """Leaves out padding and renumbers the class slots that have support."""
    real = case["support"]["mask"] > 0
    slots = np.unique(case["support"]["targets"][real])
    kept = {"classes": len(slots)}
    for side, batch in case.items():
        real = batch["mask"] > 0
        targets = np.searchsorted(slots, batch["targets"][real])
        inputs = to_torch(batch["inputs"][real], dtype).permute(0, 3, 1, 2)
        kept[side] = inputs, to_torch(targets, torch.int64)
    return kept


def norm(tree: dict) -> float:
    """Returns the Euclidean norm of all leaves together."""
    return (
        float(sum((leaf.double() ** 2).sum() for leaf in tree.values())) ** 0.5
    )


def main() -> None:
    """Writes the file and prints what it holds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path")
    path = parser.parse_args().path
    torch.set_num_threads(1)
    rng = np.random.default_rng(20)
    params, alpha = draw_weights(rng)
    cases = draw_cases(rng)
    out = {f"param/{name}": value for name, value in params.items()}
    out |= {f"alpha/{name}": value for name, value in alpha.items()}
    for name, case in cases.items():
        for side, batch in case.items():
            out |= {f"{name}/{side}/{k}": v for k, v in batch.items()}
        for bits, dtype in ((64, torch.float64), (32, torch.float32)):
            kept = without_padding(case, dtype)
            where = [
                {p: to_torch(v, dtype) for p, v in tree.items()}
                for tree in (params, alpha)
            ]
            both = torch.func.grad_and_value(meta_loss, argnums=(0, 1))
            (by_params, by_alpha), loss = both(*where, kept)
            out[f"{name}/loss{bits}"] = loss.numpy()
            for p in params:
                out[f"{name}/grad{bits}/{p}"] = by_params[p].numpy()
                out[f"{name}/grad{bits}_alpha/{p}"] = by_alpha[p].numpy()
            first, _ = torch.func.grad(meta_loss, argnums=(0, 1))(
                *where, kept, False
            )
            second = {p: by_params[p] - first[p] for p in params}
            print(
                f"{name} float{bits}: loss {float(loss):.12g}, gradient "
                f"{norm(by_params):.6g} (second order alone "
                f"{norm(second):.3g}), of step sizes {norm(by_alpha):.6g}"
            )
            if bits == 64:
                for p in params:
                    print(
                        f"  {p:24s} {norm({p: by_params[p]}):10.3e}  alpha",
                        " ".join(f"{x:10.3e}" for x in by_alpha[p].tolist()),
                    )
    np.savez_compressed(path, **out)
    print(f"{path}: {len(out)} arrays, {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    main()
