"""What values a config may hold, checked before anything is touched."""

from __future__ import annotations

import re

from ml_collections import ConfigDict

from htmaml_jax import limits_of_fields, limits_of_names
from htmaml_jax import limits_of_volumes as volumes
from htmaml_jax.config import NAMED, flat, form, needs_domain, refuse_unknown
from htmaml_jax.errors import UserError

# What the examples of a data set need: net.kind and net.output.
_NETS = {
    "functions": ("mlp", "numbers"),
    "pictures": ("conv", "classes"),
    "vectors": ("vector", "classes"),
    "ngrams": ("ngrams", "classes"),
    "tokens": ("sentence", "classes"),
    "volumes": ("unet", "voxels"),
}
_OF_PICTURES = (
    "roll",
    "time_mask",
    "row_mask",
    "gain",
    "mix",
    "reverse",
    "shift",
)


def check(config: ConfigDict) -> None:
    """Refuses values that cannot work, in a sentence."""
    fields = flat(config)
    limits_of_fields.check(fields)
    refuse_unknown(config.data.name)
    volumes.check(config)
    _check_slots(config)
    convolves = config.net.kind == "conv"
    grouped = config.net.kind in ("conv", "unet")
    for path in ("net.width", "embed.width") if grouped else ():
        if fields[path] % 8:
            raise UserError(
                f"{path} is {fields[path]}; it must be a multiple of 8, the "
                "number of groups of the norm layers."
            )
    if config.hyper.dim % config.hyper.heads:
        raise UserError(
            f"hyper.dim is {config.hyper.dim}; it must be a multiple of "
            f"hyper.heads, {config.hyper.heads}."
        )
    for rule in config.hyper.rules:
        if not _is_rule(rule):
            raise UserError(
                f"hyper.rules holds {rule!r}; a rule is a pair of texts, "
                "(regular expression on the path, family)."
            )
    smallest = min(config.data.rows, config.data.columns)
    if convolves and smallest < 2**config.net.blocks:
        raise UserError(
            f"net.blocks={config.net.blocks} halves the input that often, "
            f"but data.rows and data.columns leave only {smallest}; use "
            "fewer blocks or larger inputs."
        )
    for path in ("data.min_way", "data.min_shot"):
        top = fields[path.replace("min_", "")]
        if not 0 <= fields[path] <= top:
            raise UserError(
                f"{path} is {fields[path]}; it must lie between 0 (fixed) "
                f"and {top}."
            )


def _check_slots(config):
    """Refuses fillings that do not go together."""
    hyper, inner, embed = config.hyper, config.inner, config.embed
    outer, net, data = config.outer, config.net, config.data
    exchange, mixed = outer.exchange, outer.shuffle or outer.mix
    hardened = outer.auxiliary or mixed or exchange.kind != "none"
    classes = net.output in ("classes", "labels")
    examples = form(data)
    functions, pictures = examples == "functions", examples == "pictures"
    wanted = _NETS[examples]
    if data.name in NAMED:
        wanted = (wanted[0], "labels")
    for path in ("inner.over", "outer.frozen"):
        text = flat(config)[path]
        try:
            re.compile(text)
        except re.error as error:
            raise UserError(
                f"{path} {text!r} is no regular expression ({error})."
            ) from error
    head_steps = re.fullmatch(inner.over, "head/kernel")
    # Who reads the support set with a module of its own, and sees targets.
    reads = embed.kind == "set" or (embed.kind == "blind" and not classes)
    faults = (
        (
            (net.kind == "sentence") != data.tokens,
            "net.kind=sentence reads tokens of texts, and nothing else does; "
            f"set data.tokens={net.kind == 'sentence'}",
        ),
        (
            (net.kind, net.output) != wanted,
            f"data.name={data.name} needs net.kind={wanted[0]} and "
            f"net.output={wanted[1]}",
        ),
        (
            net.length and net.kind != "conv",
            "net.length is for net.kind=conv; set it to 0.0",
        ),
        (
            (net.residual or net.norm == "instance") and net.kind != "unet",
            "net.residual and net.norm=instance are for net.kind=unet",
        ),
        (
            net.deep and (net.kind != "unet" or net.blocks < 3),
            "net.deep is for net.kind=unet with net.blocks of 3 or more",
        ),
        (
            net.deep
            and (outer.objective == "joint" or outer.gradient == "reptile"),
            "outer.objective=joint and outer.gradient=reptile judge no coarse "
            "levels; set net.deep=False",
        ),
        (
            functions and any(outer.augment.values()),
            "outer.augment is not for functions; set all of it to 0",
        ),
        (
            pictures and (outer.augment.drop or outer.augment.noise),
            "outer.augment.drop and outer.augment.noise are not for pictures; "
            "set both to 0.0",
        ),
        (
            examples != "ngrams" and config.pretrain.drop,
            "pretrain.drop is for n-grams; set it to 0.0",
        ),
        (
            examples == "vectors"
            and any(outer.augment[name] for name in _OF_PICTURES),
            f"outer.augment.{', '.join(_OF_PICTURES)} are for pictures; set "
            "them to 0.0",
        ),
        (
            examples == "ngrams"
            and any(x for name, x in outer.augment.items() if name != "drop"),
            "of outer.augment only drop is for n-grams; set the rest to 0.0",
        ),
        (
            examples == "tokens" and any(outer.augment.values()),
            "outer.augment is not for tokens; set all of it to 0",
        ),
        (
            functions and (data.min_way or data.min_shot),
            "data.min_way and data.min_shot are for clips; set both to 0",
        ),
        (
            not pictures and hardened,
            "outer.auxiliary, outer.exchange, outer.shuffle and outer.mix are "
            "for sounds and pictures; set the numbers to 0.0 and "
            "outer.exchange.kind=none",
        ),
        (
            mixed and net.blocks < 2,
            "outer.shuffle and outer.mix change what blocks pass on; "
            "net.blocks must be 2 or more",
        ),
        (
            (outer.mix or outer.loss == "every")
            and outer.gradient == "reptile",
            "outer.gradient=reptile looks at no query; set outer.mix=0 and "
            "outer.loss=last",
        ),
        (
            exchange.kind != "none" and exchange.layer >= net.blocks,
            f"outer.exchange.layer is {exchange.layer}, but the blocks are 0 "
            f"to {net.blocks - 1}",
        ),
        (
            outer.joint_until and net.output not in ("classes", "voxels"),
            "outer.joint_until is for classes that change from task to task, "
            "and for volumes",
        ),
        (
            outer.joint_until
            and (outer.objective == "joint" or outer.gradient == "reptile"),
            "outer.joint_until does not go with outer.objective=joint, which "
            "is joint all along, nor with outer.gradient=reptile",
        ),
        (
            outer.objective == "joint" and hardened,
            "outer.objective=joint takes no outer.auxiliary, outer.exchange, "
            "outer.shuffle or outer.mix",
        ),
        (
            net.norm == "support" and exchange.kind in ("task", "both"),
            "outer.exchange between tasks would mix their norm statistics; "
            "set net.norm=group or outer.exchange.kind=class",
        ),
        (
            examples not in ("pictures", "volumes") and embed.body == "own",
            "embed.body=own is for sounds, pictures and volumes; set "
            "embed.body=base",
        ),
        (
            embed.pretrained
            and not (
                embed.body == "own"
                and examples in ("pictures", "volumes")
                and embed.kind in ("set", "blind")
                and hyper.kind == "generator"
            ),
            "embed.pretrained needs embed.body=own and a system that reads "
            "the support set, such as htmaml or mmaml",
        ),
        (
            functions and embed.dim % 4,
            "embed.dim must be a multiple of 4, the encoder's heads",
        ),
        (
            functions and hyper.head == "prototype" and head_steps,
            "hyper.head=prototype needs classes or masks; choose another "
            "system",
        ),
        (
            hyper.sharpness and hyper.head != "prototype",
            "hyper.sharpness is of heads from prototypes; set "
            "hyper.head=prototype, or hyper.sharpness=0.0",
        ),
        (
            (embed.reconstruct or embed.clusters or embed.statistics)
            and not reads,
            "embed.reconstruct, embed.clusters and embed.statistics need "
            "embed.kind=set",
        ),
        (
            needs_domain(config) and data.domains < 2,
            f"data.name={data.name} has one domain; hyper.kind=domain and "
            "embed.control=domain are for more",
        ),
        (
            (hyper.warmup or inner.fade) and not hyper.blend,
            "hyper.warmup and inner.fade need hyper.blend",
        ),
        (
            hyper.blend
            and (hyper.kind != "generator" or hyper.head == "prototype"),
            "hyper.blend needs hyper.kind=generator and a learned head; set "
            "hyper.head=shared and hyper.sharpness=0.0, or hyper.blend=0.0",
        ),
        (
            outer.second_from and outer.gradient in ("first", "reptile"),
            f"outer.gradient={outer.gradient} is of first order all along; "
            "set outer.second_from=0.0",
        ),
        (
            exchange.kind != "none" and not exchange.weight,
            "outer.exchange.weight is 0, so that outer.exchange has no "
            "effect; set outer.exchange.kind=none",
        ),
        (
            hyper.blend and inner.through == "transform",
            "hyper.blend does not go with inner.through=transform",
        ),
        (
            outer.objective == "joint" and outer.gradient == "reptile",
            "outer.objective=joint leaves nothing for outer.gradient=reptile",
        ),
        (
            hyper.kind == "generator" and embed.kind == "none",
            "hyper.kind=generator needs an embedding; set embed.kind",
        ),
        (
            embed.control != "none" and hyper.kind != "generator",
            "embed.control needs hyper.kind=generator; choose such a system",
        ),
        (
            hyper.kind != "generator" and inner.through == "transform",
            "inner.through=transform needs hyper.kind=generator",
        ),
        (
            hyper.blend and hyper.blend < hyper.warmup,
            "hyper.blend ends before hyper.warmup does; raise it",
        ),
        (
            classes and outer.objective == "joint" and hyper.kind != "identity",
            "outer.objective=joint needs hyper.kind=identity",
        ),
        *limits_of_names.faults(config),
    )
    for fault, text in faults:
        if fault:
            raise UserError(f"{text}.")


def _is_rule(rule):
    pair = isinstance(rule, (tuple, list)) and len(rule) == 2
    return pair and all(isinstance(x, str) for x in rule)
