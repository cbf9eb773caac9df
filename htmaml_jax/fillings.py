"""The modules that a config asks for: networks, encoders, the generator."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from htmaml_jax.embed.pair_encoder import PairEncoder
from htmaml_jax.embed.set_encoder import SetEncoder
from htmaml_jax.embed.volume_encoder import VolumeEncoder
from htmaml_jax.hyper import rules
from htmaml_jax.hyper.generator import Generator
from htmaml_jax.nets.bert import Bert, SentenceBody
from htmaml_jax.nets.conv4 import ConvBody
from htmaml_jax.nets.mlp import DenseBody, Headed, VectorBody
from htmaml_jax.nets.ngrams import BUCKETS, NgramBody
from htmaml_jax.nets.unet import UNetBody, VolumeBody
from htmaml_jax.outer.losses import PROBLEMS
from htmaml_jax.presets import PRESETS


def body(config: Any, bert: Bert | None = None) -> nn.Module:
    """Returns the base network without its head.

    Args:
      config: see `htmaml_jax.config.default`.
      bert: what net.kind="sentence" begins with.
    """
    net = config.net
    if net.kind == "mlp":
        return DenseBody(net.width, net.blocks)
    if net.kind == "ngrams":
        return NgramBody(BUCKETS, 256, net.width, net.blocks, net.context)
    if net.kind == "sentence":
        return SentenceBody(bert, net.width, net.blocks)
    if net.kind == "vector":
        return VectorBody(net.width, net.blocks)
    lowering = config.run.lowering
    dtype = None if net.precision == "float32" else jnp.dtype(net.precision)
    if net.kind == "unet":
        return UNetBody(
            net.width,
            net.blocks,
            lowering=lowering,
            dtype=dtype,
            norm=net.norm,
            blocks=net.down == "stem",
            residual=net.residual,
            deep=net.deep,
        )
    return ConvBody(
        net.width,
        net.blocks,
        net.down,
        net.norm,
        net.grow,
        net.pool,
        net.length,
        lowering,
        dtype,
    )


def makes_head(config: Any) -> bool:
    """Returns whether prototypes are added to the head, for each task."""
    grouped = PROBLEMS[config.net.output].grouped
    return grouped and config.hyper.head == "prototype"


def network(config: Any, columns: int, bert: Bert | None = None) -> nn.Module:
    """Returns the base network with so many outputs; see `body`."""
    # A head that prototypes are added to begins with them alone.
    zero = PROBLEMS[config.net.output].classes or makes_head(config)
    return Headed(body(config, bert), columns, zero_head=zero)


def encoder(config: Any) -> nn.Module | None:
    """Returns the module that reads the support set, if there is one."""
    embed = config.embed
    if embed.kind in ("none", "gradient", "statistics"):
        return None
    more = (embed.clusters, embed.reconstruct > 0)
    own = own_body(config) if embed.body == "own" else None
    if config.net.output == "voxels":
        return VolumeEncoder(embed.dim, own, embed.kind == "blind", *more)
    if not PROBLEMS[config.net.output].classes:
        return PairEncoder(embed.dim, embed.layers, 4, *more)
    return SetEncoder(embed.dim, own, embed.kind == "blind", *more)


def own_body(config: Any) -> nn.Module:
    """Returns the encoder of volumes, or that of pictures; see `pretrain`."""
    blocks = config.net.blocks
    if config.net.output == "voxels":
        return VolumeBody(config.embed.width, blocks, config.run.lowering)
    return ConvBody(config.embed.width, blocks, "stem", "group", pool="mean")


def lines(config: Any, base: Any) -> list[rules.Line]:
    """Lists which family transforms which parameter of the base network."""
    chosen = tuple(tuple(rule) for rule in config.hyper.rules)
    slots = PROBLEMS[config.net.output].grouped
    # A preset's rules are written for networks of more than one kind.
    own = PRESETS[config.system].get("hyper.rules", ())
    return rules.assign(base, chosen, slots, strict=chosen != own)


def generator(config: Any, base: Any) -> Generator:
    """Returns the module that transforms parameters like `base`."""
    hyper = config.hyper
    return Generator(
        tuple(lines(config, base)),
        hyper.trunk,
        PROBLEMS[config.net.output].grouped,
        hyper.dim,
        hyper.layers,
        hyper.heads,
        hyper.dropout,
        hyper.scale,
    )
