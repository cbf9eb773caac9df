"""Families, rules and the generator that puts them together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htmaml_jax.embed.task import TaskEmbedding
from htmaml_jax.errors import UserError
from htmaml_jax.hyper import families, rules
from htmaml_jax.hyper.generator import Generator

DIM, WAY = 6, 3
CONV, VECTOR, HEAD = (3, 3, 2, 8), (8,), (16, WAY)
PAIRS = [
    ("lowrank(2)", CONV),
    ("lowrank(1)", (5, 7)),
    ("affine", CONV),
    ("affine", VECTOR),
    ("gate", CONV),
    ("gate", VECTOR),
    ("affine_in", CONV),
    ("affine_in", VECTOR),
    ("film", CONV),
    ("add", CONV),
    ("rank1", CONV),
    ("rank1", (5, 7)),
    ("lowrank_basis(2,3)", CONV),
    ("rows", HEAD),
    ("rows", (WAY,)),
]
# Heads whose kernels start at zero, so that the family starts as identity.
ZERO_HEADS = {
    "lowrank": ["v"],
    "affine": ["scale", "shift"],
    "affine_in": ["scale", "shift"],
    "film": ["scale", "shift"],
    "gate": ["gate"],
    "add": ["add"],
    "rank1": ["v"],
    "lowrank_basis": ["c"],
    "rows": ["row"],
}
PARAMS = {
    "body": {
        "conv0": {"kernel": np.ones(CONV), "bias": np.ones(VECTOR)},
        "norm0": {"scale": np.ones(VECTOR)},
    },
    "head": {"kernel": np.ones(HEAD)},
}
RULES = [
    ("body/conv./kernel", "lowrank(2)"),
    ("body/norm.*", "affine"),
    ("body/.*", "gate"),
    ("head/kernel", "rows"),
]


def draw(rng, shape):
    return rng.normal(size=shape).astype(np.float32)


def start(family, shape, rng):
    """Returns (module, its params, token or tokens, a weight)."""
    token = draw(rng, (WAY, DIM) if family == "rows" else (DIM,))
    weight = draw(rng, shape)
    module = families.make(family, "family")
    params = module.init(jax.random.key(0), token, weight)["params"]
    return module, params, token, weight


@pytest.mark.parametrize("family,shape", PAIRS)
def test_family_starts_as_the_identity_and_leaves_it(family, shape):
    rng = np.random.default_rng(0)
    module, params, token, weight = start(family, shape, rng)
    same = module.apply({"params": params}, token, weight)
    np.testing.assert_array_equal(same, weight)
    # Each zero-initialised kernel, moved alone, must have an effect.
    heads = [x for x in ZERO_HEADS[family.split("(")[0]] if x in params]
    assert heads
    for head in heads:
        kernel = params[head]["kernel"]
        assert not np.any(kernel)
        moved = {**params[head], "kernel": draw(rng, kernel.shape)}
        moved = module.apply({"params": {**params, head: moved}}, token, weight)
        assert moved.shape == weight.shape
        assert np.min(np.abs(moved - weight)) > 0


@pytest.mark.parametrize("shape", [CONV, VECTOR])
def test_basis_adds_learned_tensors_by_generated_coefficients(shape):
    rng = np.random.default_rng(4)
    module, params, token, weight = start("basis(3)", shape, rng)
    same = module.apply({"params": params}, token, weight)
    np.testing.assert_array_equal(same, weight)
    # Learning can begin: some coefficient is not zero where the basis is.
    c = token @ params["c"]["kernel"] + params["c"]["bias"]
    assert np.all(np.abs(c) > 1e-3)
    basis = draw(rng, (3, *shape))
    moved = module.apply({"params": {**params, "basis": basis}}, token, weight)
    wanted = weight + sum(x * b for x, b in zip(c, basis, strict=True))
    np.testing.assert_allclose(moved, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family,shape", [*PAIRS, ("basis(3)", CONV)])
def test_generated_is_what_the_heads_produce(family, shape):
    _, params, token, _ = start(family, shape, np.random.default_rng(1))
    heads = [x for x in params.values() if isinstance(x, dict)]
    numbers = sum(head["bias"].size for head in heads)
    tokens = token.size // DIM
    assert families.generated(family, shape) == numbers * tokens


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_low_rank_moves_by_a_matrix_of_that_rank(rank):
    rng = np.random.default_rng(2)
    module, params, token, weight = start(f"lowrank({rank})", CONV, rng)
    params = jax.tree.map(lambda x: draw(rng, x.shape), params)
    moved = module.apply({"params": params}, token, np.zeros_like(weight))
    m, n = families.matrix_shape(CONV)
    assert (m, n) == (18, 8)
    size = np.linalg.svd(np.reshape(moved, (m, n)), compute_uv=False)
    # Exactly the rank: less would be a factor that does not count.
    assert np.sum(size > 1e-4 * size[0]) == rank
    shifted = module.apply({"params": params}, token, weight)
    np.testing.assert_allclose(shifted - weight, moved, rtol=1e-4, atol=1e-4)


def test_gate_and_affine_act_per_output_unit():
    rng = np.random.default_rng(3)
    for family in ("gate", "affine"):
        module, params, token, weight = start(family, CONV, rng)
        params = jax.tree.map(lambda x: draw(rng, x.shape), params)
        factor = module.apply({"params": params}, token, weight) / weight
        for axis in range(3):
            assert np.max(np.ptp(factor, axis=axis)) < 1e-4
        assert np.min(np.ptp(factor, axis=-1)) > 1e-2
        if family == "gate":
            assert np.min(factor) > 0 and np.max(factor) < 2


def test_first_rule_that_matches_wins():
    got = {x.path: x.family for x in rules.assign(PARAMS, RULES)}
    assert got == {
        "body/conv0/kernel": "lowrank(2)",
        "body/conv0/bias": "gate",
        "body/norm0/scale": "affine",
        "head/kernel": "rows",
    }
    # A pattern must match the whole path.
    partial = rules.assign(PARAMS, [("body/.*/kernel", "gate")])
    assert sum(x.family == "gate" for x in partial) == 1
    with pytest.raises(UserError):
        rules.assign(PARAMS, [("kernel", "gate")])


@pytest.mark.parametrize("unused", ["tail/.*", "body/conv0/kernel"])
def test_unused_rule_is_named(unused):
    """The second one matches, but an earlier rule takes it all."""
    with pytest.raises(UserError) as error:
        rules.assign(PARAMS, [*RULES, (unused, "affine")])
    assert repr(unused) in str(error.value)


@pytest.mark.parametrize(
    "family", ["swirl", "lowrank", "lowrank(x)", "affine+rows"]
)
def test_unknown_family_is_named(family):
    with pytest.raises(UserError) as error:
        rules.assign(PARAMS, [("body/.*", family)])
    assert repr(family) in str(error.value)
    assert "affine" in str(error.value)


def test_table_has_every_parameter_and_the_total():
    lines = rules.assign(PARAMS, RULES)
    text = rules.table(lines).splitlines()
    for line, row in zip(lines, text[1:-1], strict=True):
        shape = "x".join(map(str, line.shape))
        expected = [line.path, shape, line.family, str(line.generated)]
        assert row.split() == expected
    counts = 2 * (18 + 8) + 8 + 2 * 8 + 16 * WAY
    assert text[-1].split() == ["total", str(counts)]


def test_generator_starts_as_the_identity_and_moves_what_rules_name():
    rng = np.random.default_rng(4)
    some = [r for r in RULES if r[1] != "gate"]
    params = jax.tree.map(lambda x: draw(rng, x.shape), PARAMS)
    generator = Generator(
        tuple(rules.assign(PARAMS, some)), dim=DIM, layers=1, heads=2
    )
    task = TaskEmbedding(
        draw(rng, (WAY, DIM)), draw(rng, (DIM,)), jnp.ones(WAY, bool)
    )
    apply = jax.jit(lambda psi: generator.apply({"params": psi}, task, params))
    psi = jax.jit(generator.init)(jax.random.key(0), task, params)["params"]
    same = apply(psi)
    jax.tree.map(np.testing.assert_array_equal, same, params)
    moved = apply(jax.tree.map(lambda x: x + 0.1 * draw(rng, x.shape), psi))
    for line, old, new in zip(
        generator.lines,
        jax.tree.leaves(params),
        jax.tree.leaves(moved),
        strict=True,
    ):
        assert old.shape == new.shape
        changed = np.any(old != new)
        assert changed == (line.family != "identity"), line


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (("body/(", "gate"), "no regular expression"),
        (("body/conv0/kernel", "rows"), "for parameters of the head"),
        (("body/conv0/kernel", "lowrank(0)"), "lowrank"),
    ],
)
def test_rules_that_cannot_work_are_refused(rule, words):
    params = {"body": {"conv0": {"kernel": jnp.zeros((3, 3, 2, 4))}}}
    with pytest.raises(UserError, match=words):
        rules.assign(params, [rule])
