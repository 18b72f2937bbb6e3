"""Whether a small learned model helps where patterns are silent or wrong.

    python -m benchmarks.second_opinion TRAINING.jsonl [TRAINING.jsonl ...] --unseen UNSEEN.jsonl [--ridge 0.5]

Linear least squares over hashed character n-grams (3 to 5) and words (one and two), trained on the rows of TRAINING and
the examples of the shipped patterns. Four uses beside the verdict of the patterns:

- namer: names a text that no pattern names;
- benign, error: call a text benign, or not, against the verdict;
- objector: takes back the offer of an automatic strategy where the model names another category.

Each acts from a threshold of its own: that with the most rows right; for the objector, the mildest that halves the
offers that a person must decide. Figures are by leaving one program out (its rows and the examples of its patterns; the
threshold comes from the other programs, judged without it and themselves), and on UNSEEN, of which nothing is trained.
"""

from __future__ import annotations

import argparse
import itertools
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, hstack

from adapters.pattern_files import described_patterns, shipped_set
from benchmarks.classification import decided_programs, is_own, program_of, read, without_own_program
from core.errors.classify import classify
from models.errors import Category, Strategy, Verdict

Array = np.ndarray[Any, Any]
Row = Mapping[str, Any]

HASHED_TO = 2**18
CHARACTERS = 4_000
CATEGORIES = [*Category]
BENIGN = CATEGORIES.index(Category.BENIGN)
WORD = re.compile(r"\w+")


def features(texts: Sequence[str]) -> csr_matrix:
    """Hashed counts, damped by log, one unit of length for characters and one for words; a row for each text."""
    plain = [re.sub(r"\d", "0", text[:CHARACTERS].lower()) for text in texts]
    characters = [[text[at : at + size] for size in (3, 4, 5) for at in range(len(text) - size + 1)] for text in plain]
    words = [WORD.findall(text) for text in plain]
    pairs = [[*of_text, *map(" ".join, itertools.pairwise(of_text))] for of_text in words]
    return csr_matrix(hstack([_hashed(characters), _hashed(pairs)]))


def _hashed(parts: Sequence[Sequence[str]]) -> csr_matrix:
    columns = [zlib.crc32(part.encode()) % HASHED_TO for of_text in parts for part in of_text]
    starts = np.cumsum([0, *map(len, parts)])
    counted = csr_matrix((np.ones(len(columns)), columns, starts), shape=(len(parts), HASHED_TO))
    counted.sum_duplicates()
    counted.data = np.log1p(counted.data)
    length = np.sqrt(counted.multiply(counted).sum(axis=1).A1)
    return csr_matrix(counted.multiply(1 / np.maximum(length, 1e-9)[:, None]))


class Model:
    """Least squares on labelled texts; what it would say of some of them without them follows in closed form."""

    def __init__(self, texts: Sequence[str], categories: Sequence[Category], ridge: float) -> None:
        self._features = features(texts)
        self._wanted = np.full((len(texts), len(CATEGORIES)), -1.0)
        self._wanted[np.arange(len(texts)), [CATEGORIES.index(category) for category in categories]] = 1
        products = (self._features @ self._features.T).toarray()
        self._inverse = np.linalg.inv(products + ridge * np.eye(len(texts)))
        self._weights = self._inverse @ self._wanted

    def without(self, places: Sequence[int]) -> Array:
        """Scores of the texts at these places by a model that was trained on none of them; a row for each."""
        block = self._inverse[np.ix_(places, places)]
        return np.asarray(self._wanted[places] - np.linalg.solve(block, self._weights[places]))

    def of(self, texts: Sequence[str]) -> Array:
        """Scores of other texts; a row for each."""
        return np.asarray((features(texts) @ self._features.T) @ self._weights)


@dataclass(frozen=True, slots=True)
class JudgedRows:
    """Rows with what the patterns and the model say of them; every array has an entry for each row.

    `margin` is how far the model's category is ahead of the next, `benign` its score for benign (from about -1 to 1).
    """

    labels: Array
    may_act: Array
    named: Array
    offered: Array
    unnamed: Array
    opinion: Array
    margin: Array
    benign: Array

    def of(self, chosen: Array) -> JudgedRows:
        """Some of the rows."""
        return JudgedRows(*(getattr(self, field)[chosen] for field in self.__dataclass_fields__))


def judged(rows: Sequence[Row], verdicts: Mapping[int, Verdict], scores: Array) -> JudgedRows:
    """Put labels, verdicts and scores of rows side by side."""
    said = [verdicts[place] for place in range(len(rows))]
    return JudgedRows(
        labels=np.array([row["category"] for row in rows]),
        may_act=np.array([Strategy(row["safe_recovery"]).automatic for row in rows]),
        named=np.array([one.category.value for one in said]),
        offered=np.array([one.strategy.automatic for one in said]),
        unnamed=np.array([one.category is Category.UNKNOWN and one.pattern_name is None for one in said]),
        **_opinions(scores),
    )


def _opinions(scores: Array) -> dict[str, Array]:
    order = np.argsort(scores, axis=1)
    rows = np.arange(len(scores))
    return {
        "opinion": np.array([category.value for category in CATEGORIES])[order[:, -1]],
        "margin": scores[rows, order[:, -1]] - scores[rows, order[:, -2]],
        "benign": scores[:, BENIGN],
    }


def name(seen: JudgedRows, least: float) -> JudgedRows:
    """The namer; a guess offers nothing, so that the offers stay as they are."""
    return replace(seen, named=np.where(seen.unnamed & (seen.margin >= least), seen.opinion, seen.named))


def call_benign(seen: JudgedRows, least: float) -> JudgedRows:
    """Call an error benign."""
    calls = (seen.named != "benign") & (seen.benign >= least)
    return replace(seen, named=np.where(calls, "benign", seen.named), offered=seen.offered & ~calls)


def call_error(seen: JudgedRows, least: float) -> JudgedRows:
    """Call a benign text an error of unknown cause."""
    return replace(seen, named=np.where((seen.named == "benign") & (-seen.benign >= least), "unknown", seen.named))


def object_to_offers(seen: JudgedRows, least: float) -> JudgedRows:
    """Take back offers where the model names another category."""
    return replace(seen, offered=seen.offered & ~((seen.opinion != seen.named) & (seen.margin >= least)))


def rows_right(before: JudgedRows, after: JudgedRows) -> float:
    """The rows with the right category."""
    return float((after.named == after.labels).sum())


def halved(before: JudgedRows, after: JudgedRows) -> float:
    """1 where at most half of the wrong offers are left."""
    return float(2 * (after.offered & ~after.may_act).sum() <= (before.offered & ~before.may_act).sum())


Use = Callable[[JudgedRows, float], JudgedRows]
Aim = Callable[[JudgedRows, JudgedRows], float]
USES: dict[str, tuple[Use, Aim]] = {
    "namer": (name, rows_right),
    "benign": (call_benign, rows_right),
    "error": (call_error, rows_right),
    "objector": (object_to_offers, halved),
}
THRESHOLDS = [float(least) for least in np.arange(-1, 1.51, 0.05)]


def best_threshold(use: Use, aim: Aim, seen: JudgedRows) -> float:
    """The threshold that serves the aim most on these rows; the highest of equals, which acts least."""
    return max((aim(seen, use(seen, least)), least) for least in THRESHOLDS)[1]


def main() -> None:
    """Measure each use and print it beside the patterns alone."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("training", nargs="+", type=Path)
    words.add_argument("--unseen", type=Path, required=True)
    words.add_argument("--ridge", type=float, default=0.5)
    asked = words.parse_args()
    rows = [row for file in asked.training for row in read(file)]
    programs = np.array([program_of(row, place) for place, row in enumerate(rows)])
    model, own = trained(rows, programs, asked.ridge)
    answers = {place: classify(row["text"], shipped_set()) for place, row in enumerate(rows)}
    seen = judged(rows, without_own_program(rows, answers), scores_without(model, own, programs))
    show("leave one program out: patterns alone", seen)
    unseen = read(asked.unseen)
    verdicts = {place: classify(row["text"], shipped_set()) for place, row in enumerate(unseen)}
    new = judged(unseen, verdicts, model.of([row["text"] for row in unseen]))
    show("unseen: patterns alone", new)
    others = {
        program: replace(seen, **_opinions(scores_without(model, own, programs, besides=own[program]))).of(
            programs != program
        )
        for program in own
    }
    for title, (use, aim) in USES.items():
        named, offered = seen.named.copy(), seen.offered.copy()
        for program, rest in others.items():
            its = use(seen, best_threshold(use, aim, rest))
            named[programs == program] = its.named[programs == program]
            offered[programs == program] = its.offered[programs == program]
        show(f"leave one program out: with {title}", replace(seen, named=named, offered=offered))
        least = best_threshold(use, aim, seen)
        show(f"unseen: with {title} from {least:.2f}", use(new, least))


def trained(rows: Sequence[Row], programs: Array, ridge: float) -> tuple[Model, dict[str, list[int]]]:
    """The model of rows and examples, and for each program the places of all that is its own."""
    answers = {place: classify(row["text"], shipped_set()) for place, row in enumerate(rows)}
    deciding = decided_programs(rows, answers)
    examples = [(one, line) for one in described_patterns() for line in one.match]
    texts = [*(row["text"] for row in rows), *(line for _, line in examples)]
    labels = [*(Category(row["category"]) for row in rows), *(one.pattern.category for one, _ in examples)]
    own = {
        program: [
            *np.flatnonzero(programs == program).tolist(),
            *(len(rows) + place for place, (one, _) in enumerate(examples) if is_own(one, program, deciding)),
        ]
        for program in dict.fromkeys(programs.tolist())
    }
    print(f"{len(rows)} rows of {len(own)} programs and {len(examples)} examples, ridge {ridge}")
    return Model(texts, labels, ridge), own


def scores_without(
    model: Model, own: Mapping[str, Sequence[int]], programs: Array, besides: Sequence[int] = ()
) -> Array:
    """Scores of each row by a model without what is its program's own, and without what else is named."""
    scores = np.zeros((len(programs), len(CATEGORIES)))
    for places in own.values():
        left = [*places, *set(besides).difference(places)]
        found = model.without(left)
        its = [place for place in places if place < len(programs)]
        scores[its] = found[: len(its)]
    return scores


def show(title: str, seen: JudgedRows) -> None:
    """Print the shares of right categories and benign rows, the model's own, and the offers."""
    error = seen.labels != "benign"
    right, alone = seen.named == seen.labels, seen.opinion == seen.labels
    print(
        f"{title:48} category {right[error].mean():.3f}  benign {right[~error].mean():.3f}  "
        f"offers: {(seen.offered & ~seen.may_act).sum()} wrong, {(seen.offered & seen.may_act).sum()} right  "
        f"(the model alone: {alone[error].mean():.3f}, {alone[~error].mean():.3f})",
        flush=True,
    )


if __name__ == "__main__":
    main()
