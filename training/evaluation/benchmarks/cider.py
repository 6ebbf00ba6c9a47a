"""CIDEr-D: the weighted n-grams that a caption shares with its reference.

Vedantam et al., "CIDEr: Consensus-based Image Description Evaluation" (CVPR 2015), in the form
that caption benchmarks use (clipped counts, length penalty). Knows no intervals and no files.
"""

import math
from collections import Counter
from collections.abc import Sequence

LONGEST_GROUP = 4
"""N-grams of 1 to this many words are compared."""
LENGTH_SIGMA = 6.0
"""Width, in words, of the penalty on a length other than the reference's."""
SCALE = 10.0

Words = Sequence[str]
_Vector = dict[tuple[str, ...], float]


def cider(pairs: Sequence[tuple[Words, Words]]) -> float:
    """Return the mean CIDEr-D of (caption, reference) pairs, from 0 to 10; 0 without pairs.

    An n-gram weighs less the more references contain it, so the score depends on all pairs given
    at once; a single pair, whose n-grams are in every reference, scores 0.

    Args:
        pairs: of word lists.
    """
    if not pairs:
        return 0.0
    counts = [(_groups(caption), _groups(reference)) for caption, reference in pairs]
    frequency = Counter(group for _, reference in counts for group in reference)
    total = 0.0
    for (caption, reference), (ours, theirs) in zip(pairs, counts, strict=True):
        gap = max(len(caption) - 1, 0) - max(len(reference) - 1, 0)
        penalty = math.exp(-(gap**2) / (2 * LENGTH_SIGMA**2))
        first = _weighted(ours, frequency, len(pairs))
        second = _weighted(theirs, frequency, len(pairs))
        cosines = (_clipped_cosine(a, b) for a, b in zip(first, second, strict=True))
        total += penalty * sum(cosines) / LONGEST_GROUP
    return SCALE * total / len(pairs)


def _groups(words: Words) -> Counter[tuple[str, ...]]:
    return Counter(
        tuple(words[start : start + length])
        for length in range(1, LONGEST_GROUP + 1)
        for start in range(len(words) - length + 1)
    )


def _weighted(
    counts: Counter[tuple[str, ...]], frequency: Counter[tuple[str, ...]], references: int
) -> list[_Vector]:
    """Return counts times inverse document frequency, one vector per n-gram length."""
    vectors: list[_Vector] = [{} for _ in range(LONGEST_GROUP)]
    for group, count in counts.items():
        rarity = math.log(references) - math.log(max(1, frequency[group]))
        vectors[len(group) - 1][group] = count * rarity
    return vectors


def _clipped_cosine(ours: _Vector, theirs: _Vector) -> float:
    """Return the cosine, with counts limited to those of the reference."""
    norm = math.sqrt(_squares(ours) * _squares(theirs))
    if norm == 0:
        return 0.0
    return (
        sum(min(weight, theirs.get(g, 0.0)) * theirs.get(g, 0.0) for g, weight in ours.items())
        / norm
    )


def _squares(vector: _Vector) -> float:
    return sum(weight * weight for weight in vector.values())
