"""Judges a model on a language of which it is given no label.

What it adapts to instead is `eval.support`:

  train   zero-shot with auxiliary languages: labelled texts of the languages
          of training, as many of each.
  none    zero-shot, and no step is taken.
  pseudo  self-training: to these, and to the model's own confident guesses on
          other texts of the language; in rounds (HateMAML, Awal et al., 2023,
          which keeps gold labels of confident items; here no label is read).

It is adapted once. Texts to judge on come in chunks of `CHUNK`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from htmaml_jax.data import sources
from htmaml_jax.data.table import QUERY, SUPPORT, Table
from htmaml_jax.episode import Batch
from htmaml_jax.errors import UserError
from htmaml_jax.learner import Learner
from htmaml_jax.outer import losses
from htmaml_jax.run import step

CHUNK = 200
VARIANTS = {
    "own": "default",
    "train": "zero-shot",
    "none": "unadapted",
    "pseudo": "self-training",
}


class Judged(NamedTuple):
    """What came out.

    Attributes:
      values: [chunks] the metric.
      corpus: figures of all texts together, and how many there are.
      rounds: of self-training: pseudo-labels of each class, and what share of
        them was right, which the model never learns.
    """

    values: np.ndarray
    corpus: dict[str, float]
    rounds: list[dict[str, Any]]


def judge(learner: Learner, meta: Any, table: Table, judged: Any) -> Judged:
    """Judges on all texts of one language.

    Args:
      learner: a system with a head of named classes.
      meta: its parameters.
      table: with the languages of training and the one to judge on.
      judged: the config group `eval`, with a domain.

    Raises:
      UserError: there is no such language, or no text to label.
    """
    only = table.of_domain(judged.domain, judged.split)
    rows, slots = only.rows_of(judged.split), only.of_split(judged.split)
    uses = table.uses[rows]
    asked, free = rows[uses & QUERY > 0], rows[uses == SUPPORT]
    gold = np.searchsorted(slots, table.labels)

    def log_odds(support, rows):
        answer = step.specialise(learner, meta, support)
        inputs = sources.batches(table, rows, CHUNK)
        found = [np.asarray(answer(x)) for x in inputs]
        return np.concatenate(found)[: len(rows)]

    support, rounds = auxiliary(table, judged.shot, judged.seed), []
    if judged.support == "none":
        support = support._replace(mask=np.zeros_like(support.mask))
    if judged.support == "pseudo":
        if not len(free):
            raise UserError(
                f"{judged.domain} has no texts but those to judge on; "
                "self-training needs others. Choose eval.support=train."
            )
        known = support
        for number in range(1, judged.rounds + 1):
            odds = np.exp(log_odds(support, free))
            picked, guess = confident(odds, judged.confidence, judged.pseudo)
            support = joined(table, known, free[picked], guess, judged.pseudo)
            right = guess == gold[free[picked]]
            rounds.append(
                {
                    "round": number,
                    "texts": len(free),
                    "kept": np.bincount(guess, minlength=2).tolist(),
                    "precision": float(right.mean()) if len(right) else None,
                }
            )
    logits = log_odds(support, asked)
    whole = Batch(logits, gold[asked], np.ones(len(asked), np.float32))
    # What is left at the end joins the last of them.
    starts = [0, *range(CHUNK, len(asked) - CHUNK + 1, CHUNK)]
    score = learner.problem.score
    values = [
        float(score(part.inputs, part))
        for a, b in zip(starts, [*starts[1:], len(asked)], strict=True)
        for part in [jax.tree.map(lambda x, a=a, b=b: x[a:b], whole)]
    ]
    corpus = {
        learner.problem.metric: float(score(logits, whole)),
        "accuracy": float(losses.accuracy(logits, whole)),
        "items": len(asked),
        "by_class": np.bincount(gold[asked], minlength=2).tolist(),
    }
    return Judged(np.array(values), corpus, rounds)


def auxiliary(table: Table, shot: int, seed: int = 0) -> Batch:
    """Returns `shot` labelled texts per class, spread over training languages.

    They are the same in every call with the same seed.
    """
    classes = table.of_split("train")
    languages = np.unique(table.domain_of[classes])
    rows, targets = [], []
    for i in range(shot):
        language = languages[i % len(languages)]
        mine = classes[table.domain_of[classes] == language]
        for slot, label in enumerate(mine):
            there = np.flatnonzero(table.labels == label)
            each = -(-shot // len(languages))
            place = seed * each + i // len(languages)
            rows.append(there[place % len(there)])
            targets.append(slot)
    return _batch(table, np.array(rows), np.array(targets))


def confident(
    odds: np.ndarray, threshold: float, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Picks what a model is sure of, as many of each class.

    Args:
      odds: [n, N] probabilities.
      threshold: smallest probability of a guess that is picked.
      most: picked of each class at most; the surest.

    Returns:
      Which [m], and their guesses [m].
    """
    guess, sure = odds.argmax(1), odds.max(1)
    order = np.argsort(-sure, kind="stable")
    order = order[sure[order] >= threshold]
    sides = [order[guess[order] == k] for k in range(odds.shape[1])]
    count = min(most, *map(len, sides))
    picked = np.concatenate([side[:count] for side in sides])
    return picked, guess[picked]


def joined(
    table: Table, known: Batch, rows: np.ndarray, guess: np.ndarray, most: int
) -> Batch:
    """Returns a support of known labels and of guesses, always of one size."""
    added = np.zeros(most * len(set(known.targets.tolist())), np.int32)
    targets, mask = np.zeros_like(added), np.zeros(len(added), np.float32)
    added[: len(rows)], targets[: len(rows)] = rows, guess
    mask[: len(rows)] = 1
    more = _batch(table, added, targets)._replace(mask=mask)
    return jax.tree.map(lambda *x: np.concatenate(x), known, more)


def _batch(table, rows, targets):
    inputs = sources.standard(np, sources.examples_of(table), rows)
    mask = np.ones(len(rows), np.float32)
    return Batch(inputs, targets.astype(np.int32), mask)
