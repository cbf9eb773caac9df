"""Learners of every preset, so small that they compile in seconds."""

import functools

from htmaml_jax import config, limits
from htmaml_jax.data import find


def fields_of(system, numbers=False, **more):
    fields = config.default()
    if numbers:
        fields.data.update(
            name="regression6-0-5", way=1, shot=10, query=10, domains=6
        )
        fields.net.update(kind="mlp", output="numbers", width=16)
        fields.hyper.rules = (("body/.*", "affine"), ("head/.*", "add"))
    else:
        fields.net.update(width=8, blocks=1)
        fields.data.domains = 2
    fields.net.blocks = 1
    fields.embed.update(width=8, dim=8, layers=1)
    fields.hyper.update(dim=8, layers=1, dropout=0.0)
    fields.inner.steps = 2
    config.choose(fields, system)
    for path, value in more.items():
        config.put(fields, path.replace("__", "."), value)
    limits.check(fields)
    return fields


@functools.cache
def numbers_data():
    data = fields_of("maml", True).data
    table = find.load(data)
    shape = find.fixed_shape(data)
    return find.source(table, shape, "train", 0, "device"), data
