"""What a model makes of queries that are of no class of their task."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special, stats

from htmaml_jax import intervals
from htmaml_jax.data import sources
from htmaml_jax.data.table import Table
from htmaml_jax.learner import Learner
from htmaml_jax.run import look

_EACH = 100  # of them beside the queries of a task
_TASKS = 200


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Returns how often a score inside is above one outside; ties are half.

    The area under the ROC curve, by the statistic of Mann and Whitney (1947).
    """
    ranks = stats.rankdata(np.concatenate([inside, outside]))
    n, m = len(inside), len(outside)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def judge(
    learner: Learner,
    meta: Any,
    table: Table,
    source: sources.Source,
    episodes: int,
) -> dict[str, Any]:
    """Tells queries from `table.outside` in a source's first episodes.

    A query counts as known by its largest probability (Hendrycks and Gimpel,
    ICLR 2017), or by its largest logit; of heads from prototypes that is the
    negative squared distance to the nearest one.

    Returns:
      {"texts", "episodes", "auroc": {score: {"mean", "ci95"}}}.
    """

    compare = look.make_comparison(learner, source.episodes)
    count = min(episodes, _TASKS)
    whole = np.arange(len(table.outside))
    strange = sources.examples_of(table)._replace(inputs=table.outside)
    found = {"probability": [], "logit": []}
    for i, pieces in zip(range(count), source.pieces(0, 1), strict=False):
        rows = np.take(whole, i * _EACH + np.arange(_EACH), mode="wrap")
        inputs = sources.standard(np, strange, rows)
        both = compare(meta, source.shared, pieces, inputs)
        logits = [np.asarray(x) for x in both]
        sure = [special.softmax(x, axis=1) for x in logits]
        for values, pair in zip(found.values(), (sure, logits), strict=True):
            values.append(auroc(*(x.max(1) for x in pair)))
    return {
        "texts": len(whole),
        "episodes": count,
        "auroc": {k: intervals.summary(np.array(v)) for k, v in found.items()},
    }
