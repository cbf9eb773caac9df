"""What meta-training can do to tasks, and what goes with what there."""

from __future__ import annotations

from ml_collections import ConfigDict

from htmaml_jax.config import form

_OF_PICTURES = (
    "roll",
    "time_mask",
    "row_mask",
    "gain",
    "mix",
    "reverse",
    "shift",
)


def faults(config: ConfigDict) -> tuple[tuple[bool, str], ...]:
    """Lists (whether it is so, what is wrong then)."""
    outer, net, hyper = config.outer, config.net, config.hyper
    exchange, mixed = outer.exchange, outer.shuffle or outer.mix
    hardened = outer.auxiliary or mixed or exchange.kind != "none"
    classes = net.output in ("classes", "labels")
    examples = form(config.data)
    functions, pictures = examples == "functions", examples == "pictures"
    return (
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
            outer.objective == "joint" and outer.gradient == "reptile",
            "outer.objective=joint leaves nothing for outer.gradient=reptile",
        ),
        (
            (classes or net.output == "voxels")
            and outer.objective == "joint"
            and hyper.kind != "identity",
            "outer.objective=joint needs hyper.kind=identity",
        ),
        (
            outer.gradient == "reptile" and not config.inner.steps,
            "outer.gradient=reptile learns from where inner steps end; set "
            "inner.steps to 1 or more",
        ),
    )
