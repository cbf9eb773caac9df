"""What all tests share: JAX on the CPU, a cache of their own, a tiny table."""

import os
import pathlib
import signal
import sys

# Before any test module imports JAX, which reads them once. Compiling is
# nearly all that the tests do, so it need not optimise. XLA's older emitters
# compile in half the time; JAX for Python 3.11 ends before they were dropped,
# and a later XLA ends at a flag that it does not know.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true"
    + (
        " --xla_cpu_use_fusion_emitters=false"
        if sys.version_info < (3, 12)
        else ""
    ),
)

import numpy as np
import pytest
import tiny

from htmaml_jax.data.table import Table

# A job that a shell runs in the background ignores SIGINT, and so would all
# that tests start; what is caught here is the default again for them.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Read before any test changes the environment.
_REAL = os.environ.get("HTMAML_DATA")


@pytest.fixture(scope="session")
def real_data():
    """Returns the folder of real data; where none is named, tests skip.

    A named folder must hold the data: a skip would hide that it does not.
    """
    if not _REAL:
        pytest.skip("HTMAML_DATA does not name the data folder")
    return pathlib.Path(_REAL)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Keeps what tests compute out of the person's own cache."""
    if os.environ.get("HTMAML_CACHE"):
        yield
        return
    os.environ["HTMAML_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    del os.environ["HTMAML_CACHE"]


@pytest.fixture(scope="session")
def tiny_table():
    """Returns 9 classes of 12 noisy copies of one picture, 8x8.

    Two consecutive examples were cut from one recording; the classes are
    split 4/2/3.
    """
    classes = tuple(f"class{i}" for i in range(9))
    labels = np.repeat(np.arange(9, dtype=np.int32), 12)
    return Table(
        name="tiny",
        origin="tests",
        inputs=tiny.pictures(9, 12, seed=0),
        labels=labels,
        recordings=np.arange(len(labels), dtype=np.int32) // 2,
        classes=classes,
        splits={
            "train": classes[:4],
            "validation": classes[4:6],
            "test": classes[6:],
        },
        licence="none",
        front_end={"rows": 8, "columns": 8},
    )


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """Returns the folder of a tiny sentence encoder."""
    from test_sentence import make_folder

    return make_folder(tmp_path_factory.mktemp("model") / "enc", unit=True)


@pytest.fixture(scope="session")
def own(tmp_path_factory):
    """Returns a file of texts for it; `test_texts.write_own` says which."""
    from test_texts import write_own

    return write_own(tmp_path_factory.mktemp("own") / "mine.csv")
