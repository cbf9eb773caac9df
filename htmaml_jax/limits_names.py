"""What classes that have names ask of a config, and what asks for such."""

from __future__ import annotations

from ml_collections import ConfigDict

from htmaml_jax.config import NAMED, TEXTS


def faults(config: ConfigDict) -> tuple[tuple[bool, str], ...]:
    """Lists (whether it is so, what is wrong then)."""
    data, judged, outer = config.data, config.eval, config.outer
    named = data.name in NAMED
    return (
        (
            not named and (outer.domain_query, judged.support) != ("own",) * 2,
            "outer.domain_query and eval.support are for data whose classes "
            f"have names: {', '.join(NAMED)}",
        ),
        (
            named and (data.min_way > 0 or {data.way, judged.way} != {2}),
            f"the classes of data.name={data.name} are two; set way=2 and "
            "data.min_way=0",
        ),
        (
            data.label_names
            and (named or data.name not in TEXTS or data.name == "xsid"),
            f"data.label_names is for intents, not for data.name={data.name}",
        ),
        (
            named and config.hyper.kind == "domain",
            "hyper.kind=domain has no weights for a language that training "
            "has not met; choose another system",
        ),
        (
            judged.support == "none"
            and (config.hyper.head, config.hyper.kind)
            != ("shared", "identity"),
            "eval.support=none leaves nothing to read or to make prototypes "
            "of; use train",
        ),
    )
