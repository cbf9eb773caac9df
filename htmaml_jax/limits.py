"""What values a config may hold, checked before anything is touched."""

from __future__ import annotations

import re

from ml_collections import ConfigDict

from htmaml_jax import limits_of_fields, limits_of_names, limits_of_outer
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
    joint = config.joint
    classes = net.output in ("classes", "labels")
    examples = form(data)
    functions = examples == "functions"
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
            net.kind not in ("conv", "unet")
            and (net.precision, net.norm) != ("float32", "group"),
            "net.precision and net.norm are for net.kind=conv and unet; with "
            f"{net.kind} leave them out",
        ),
        (
            classes and 1 in (data.way, data.min_way, config.eval.way),
            "of one class there is nothing to tell apart; set data.way, "
            "eval.way and, if it is not 0, data.min_way to 2 or more",
        ),
        (
            not joint.parts
            and (joint.only or joint.weigh != "none" or not joint.shared),
            "joint.only, joint.weigh and joint.shared are for a config of "
            "several domains, such as configs/multimodal.py",
        ),
        (
            joint.parts and joint.shared and hyper.kind != "generator",
            f"joint.shared is of a generator's trunk, and {config.system} has "
            "none; set joint.shared=False or another system",
        ),
        (
            joint.weigh != "none" and not joint.shared,
            "joint.weigh is of gradients in a trunk of all; set "
            "joint.weigh=none or joint.shared=True",
        ),
        (
            net.context and net.kind != "ngrams",
            "net.context is for net.kind=ngrams; set it to 0",
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
            examples != "ngrams" and config.pretrain.drop,
            "pretrain.drop is for n-grams; set it to 0.0",
        ),
        (
            functions and (data.min_way or data.min_shot),
            "data.min_way and data.min_shot are for clips; set both to 0",
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
            inner.rates == "task"
            and not (reads and hyper.kind == "generator" and inner.steps),
            "inner.rates=task needs inner.steps, hyper.kind=generator and "
            "embed.kind=set, as htmaml has it",
        ),
        (
            inner.rates == "task"
            and (
                inner.rule == "alfa"
                or hyper.blend
                or outer.objective == "joint"
                or outer.gradient == "reptile"
            ),
            "inner.rates=task does not go with inner.rule=alfa, hyper.blend, "
            "outer.objective=joint or outer.gradient=reptile",
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
            hyper.blend and inner.through == "transform",
            "hyper.blend does not go with inner.through=transform",
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
            config.eval.transductive and net.norm != "support",
            "eval.transductive=True lets norm layers see the other queries, "
            f"and those of net.norm={net.norm} look at one example alone; "
            "leave it out, or train with net.norm=support",
        ),
        (
            config.eval.strength < 1
            and (hyper.kind != "generator" or inner.through == "transform"),
            "eval.strength is of a generator that changes weights before the "
            "inner loop; leave it out, or choose such a system",
        ),
        *limits_of_outer.faults(config),
        *limits_of_names.faults(config),
    )
    for fault, text in faults:
        if fault:
            raise UserError(f"{text}.")


def _is_rule(rule):
    pair = isinstance(rule, (tuple, list)) and len(rule) == 2
    return pair and all(isinstance(x, str) for x in rule)
