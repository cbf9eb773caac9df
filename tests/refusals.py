"""What every refusal is asked for: one line, with the words that help."""

import pytest

from htmaml_jax import config
from htmaml_jax.errors import UserError


def refused(call, *words):
    """Checks that a call is refused in one line with these words."""
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for word in words:
        assert str(word) in str(caught.value)


def parsed(arg):
    """Returns the defaults, changed by what stands after a colon."""
    return config.parse(config.default(), arg)
