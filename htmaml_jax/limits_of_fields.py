"""What single fields of a config may be; see `limits`."""

from __future__ import annotations

import math
from typing import Any

from htmaml_jax.errors import UserError

_CHOICES = {
    "data.loader": ("device", "tfdata"),
    "embed.body": ("base", "own"),
    "embed.control": ("none", "constant", "shuffled", "domain"),
    "embed.kind": ("none", "set", "blind", "gradient", "statistics"),
    "eval.support": ("own", "train", "none", "pseudo"),
    "eval.split": ("train", "validation", "test"),
    "hyper.head": ("shared", "prototype"),
    "hyper.kind": ("identity", "generator", "domain"),
    "hyper.trunk": ("transformer", "mlp"),
    "inner.rates": ("layer", "weight", "fixed", "task"),
    "inner.rule": ("sgd", "curvature", "alfa"),
    "inner.through": ("weights", "transform", "adapters"),
    "net.down": ("pool", "stem", "stride"),
    "net.kind": ("conv", "mlp", "vector", "ngrams", "sentence", "unet"),
    "net.output": ("classes", "labels", "numbers", "voxels"),
    "net.norm": ("group", "instance", "support", "none"),
    "net.pool": ("flat", "columns", "mean"),
    "net.precision": ("float32", "bfloat16"),
    "joint.weigh": ("none", "uncertainty", "gradient"),
    "outer.exchange.kind": ("none", "class", "task", "both"),
    "outer.gradient": ("plain", "remat", "mixed", "first", "reptile"),
    "outer.loss": ("last", "every"),
    "outer.domain_query": ("own", "other", "both"),
    "outer.objective": ("meta", "joint"),
    "run.lowering": ("auto", "patches", "blocks", "lax"),
}
_AT_LEAST_ONE = """
data.way data.shot data.query data.rows data.columns eval.way eval.shot
eval.query eval.episodes train.steps train.tasks train.val_episodes net.width
net.grow net.blocks data.size embed.width embed.dim embed.layers data.domains
hyper.dim hyper.layers hyper.heads log.every pretrain.steps pretrain.batch
pretrain.width eval.rounds eval.pseudo data.side
"""
_ABOVE_ZERO = """
outer.rate outer.clip train.val_every pretrain.rate pretrain.temperature
pretrain.crop eval.finetune_rate outer.exchange.temperature outer.exchange.share
"""
_NOT_NEGATIVE = """
inner.steps inner.size inner.clip embed.clusters embed.reconstruct run.chunk
run.devices outer.decay hyper.scale hyper.move_penalty outer.augment.gain
pretrain.decay pretrain.gain outer.augment.noise data.spacing eval.tolerance
outer.auxiliary outer.exchange.weight outer.exchange.layer outer.shuffle
outer.mix data.limit eval.finetune eval.finetune_batch hyper.sharpness
inner.unroll net.length net.context
"""
_SHARES = """
outer.warmup outer.floor outer.second_from outer.joint_until outer.augment.roll
outer.augment.time_mask outer.augment.row_mask outer.augment.mix
outer.augment.reverse outer.augment.shift outer.augment.blend
outer.augment.drop outer.augment.flip outer.augment.turn
outer.augment.invert outer.augment.gamma hyper.warmup hyper.blend hyper.dropout
pretrain.time_mask pretrain.row_mask pretrain.mix pretrain.drop
eval.confidence
"""


def check(fields: dict[str, Any]) -> None:
    """Refuses numbers out of their range, and words that are no choice."""
    tests = (
        (_AT_LEAST_ONE, lambda x: x >= 1, "at least 1"),
        (_ABOVE_ZERO, lambda x: x > 0, "positive"),
        (_NOT_NEGATIVE, lambda x: x >= 0, "0 or more"),
        (
            "pretrain.crop outer.exchange.share outer.shuffle outer.mix",
            lambda x: x <= 1,
            "at most 1",
        ),
        (_SHARES, lambda x: 0 <= x < 1, "at least 0 and below 1"),
        # Else a volume could be turned inside out, or fold.
        (
            "outer.augment.affine eval.finetune_bend",
            lambda x: 0 <= x < 1 / 3,
            "in 0 .. 1/3",
        ),
        ("outer.augment.elastic", lambda x: 0 <= x < 1 / 8, "in 0 .. 1/8"),
        ("eval.strength", lambda x: 0 <= x <= 1, "in 0 .. 1"),
        ("run.seed eval.seed", lambda x: 0 <= x < 2**31, "in 0 .. 2**31 - 1"),
    )
    for paths, fits, wanted in tests:
        for path in paths.split():
            if not (math.isfinite(fields[path]) and fits(fields[path])):
                raise UserError(
                    f"{path} is {fields[path]}; it must be {wanted}."
                )
    for path, allowed in _CHOICES.items():
        if fields[path] not in allowed:
            raise UserError(
                f"{path} is {fields[path]!r}; choose from {', '.join(allowed)}."
            )
