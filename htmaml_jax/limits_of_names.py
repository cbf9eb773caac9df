"""What classes that have names ask of a config, and what asks for such."""

from __future__ import annotations

from ml_collections import ConfigDict

from htmaml_jax.config import LANGUAGES, NAMED, TEXTS, needs_domain

_OWN = ("auto", "clips", "decathlon", "totalsegmentator")


def _own(name):
    return bool({*_OWN} & {*name.split("+")})


def faults(config: ConfigDict) -> tuple[tuple[bool, str], ...]:
    """Lists (whether it is so, what is wrong then)."""
    data, judged, outer = config.data, config.eval, config.outer
    named, joint = data.name in NAMED, outer.objective == "joint"
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
            data.limit and data.name != "hate",
            "data.limit is for data.name=hate; set it to 0",
        ),
        (
            data.train and data.name not in LANGUAGES,
            f"data.train is for {' and '.join(LANGUAGES)}; leave it out",
        ),
        (
            data.name == "texts" and data.fold not in (0, 1),
            "texts of your own have no folds; leave data.fold out, or set 0 to "
            "test on all labels",
        ),
        (
            data.recording and not _own(data.name),
            f"data.recording is for files of your own: {', '.join(_OWN)}; "
            "leave it out",
        ),
        (
            data.name in LANGUAGES and needs_domain(config),
            "hyper.kind=domain and embed.control=domain know nothing of a "
            "language that training has not met; choose another system",
        ),
        (
            named and joint and config.hyper.head == "prototype",
            "outer.objective=joint learns the head of named classes; set "
            "hyper.head=shared, as finetune has it",
        ),
        (
            judged.support == "none"
            and (config.hyper.head, config.hyper.kind, config.inner.rule)
            not in (("shared", "identity", x) for x in ("sgd", "curvature")),
            "eval.support=none leaves nothing to read, to make prototypes of "
            "or for weights to decay by; use train",
        ),
        (
            judged.support != "own" and config.embed.control == "shuffled",
            "embed.control=shuffled reads the support of another task; set "
            "eval.support=own",
        ),
        (
            judged.support != "own" and not judged.domain,
            f"eval.support={judged.support} judges one domain at a time; set "
            "eval.domain, to hate-ar or hatecheck-nl for example",
        ),
        (
            outer.domain_query != "own" and outer.gradient == "reptile",
            "outer.gradient=reptile looks at no query; set "
            "outer.domain_query=own",
        ),
    )
