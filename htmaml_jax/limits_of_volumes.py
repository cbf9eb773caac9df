"""What a config for volumes may hold; see `limits`."""

from __future__ import annotations

from ml_collections import ConfigDict

from htmaml_jax.config import form
from htmaml_jax.errors import UserError

# Augmentations of volumes and of nothing else.
ALONE = ("flip", "turn", "invert", "affine", "elastic", "gamma")


def check(config: ConfigDict) -> None:
    """Refuses what only classes have, and cubes that cannot be halved."""
    augment, net, data = config.outer.augment, config.net, config.data
    if form(data) != "volumes":
        if any(augment[name] for name in ALONE):
            raise UserError(
                f"outer.augment.{', '.join(ALONE)} are for volumes; set all "
                "to 0."
            )
        if config.eval.finetune_bend:
            raise UserError("eval.finetune_bend is for volumes; set it to 0.0.")
        return
    for name, value in augment.items():
        if value and name not in (*ALONE, "noise"):
            raise UserError(
                f"outer.augment.{name} is not for volumes, only "
                f"{', '.join(ALONE)} and noise are; set it to 0."
            )
    halved = net.blocks - 1 + (net.down == "stem")
    if config.embed.body == "own":
        halved = max(halved, net.blocks)
    if data.side % 2**halved:
        raise UserError(
            f"data.side is {data.side}; with net.blocks={net.blocks} and "
            f"net.down={net.down} it must be a multiple of {2**halved}."
        )
    if net.norm == "instance" and data.side < 2 ** (halved + 1):
        raise UserError(
            f"data.side is {data.side}; with net.norm=instance the smallest "
            f"level would be of one cell, which is then 0: make it "
            f"{2 ** (halved + 1)} or more."
        )
    pretrain = config.pretrain
    if pretrain.time_mask or pretrain.row_mask or pretrain.mix:
        raise UserError(
            "pretrain.time_mask, row_mask and mix are not for volumes, only "
            "crop and gain are; set them to 0."
        )
    embed, judged = config.embed, config.eval
    if embed.kind == "blind" and (embed.reconstruct or embed.statistics):
        raise UserError(
            "embed.kind=blind of volumes takes neither embed.reconstruct nor "
            "embed.statistics; set both to 0."
        )
    if judged.finetune_bend and not judged.finetune:
        raise UserError(
            "eval.finetune_bend bends what eval.finetune sees; set that, too."
        )
    if data.min_way not in (0, data.way):
        raise UserError(
            f"data.min_way is {data.min_way}; tasks on volumes are of "
            "data.way structures each: set it to 0."
        )
    if net.down == "stride":
        raise UserError(
            "net.down=stride is for pictures; for volumes set pool, or stem "
            "to work on blocks of 2x2x2 voxels."
        )
    low, high = (*config.data.hounsfield, 0, 0)[:2]
    if len(config.data.hounsfield) != 2 or not low < high:
        raise UserError(
            f"data.hounsfield is {config.data.hounsfield}; it must be a pair, "
            "the lower first."
        )
