"""Texts ranked by the words that they share with a query. Knows no videos and no models."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

_SATURATION = 1.2  # how soon further occurrences of a word stop to count
_LENGTH = 0.75  # how much long texts are held back
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # scripts that write words without gaps
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_SHORTEST_PLURAL = 4


def words(text: str) -> list[str]:
    """Return the words of a text as they are compared: no case, no accents, no plural s.

    Of Chinese, Japanese and Korean every character counts as a word.
    """
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    # Korean syllables come apart above, and together again here.
    found = _WORD.findall(unicodedata.normalize("NFC", plain))
    return [_singular(word) for word in found]


def rank(query: str, texts: Sequence[str]) -> list[float]:
    """Return how well each text fits the query, in [0, 1]: BM25 as a share of the query's own.

    A word that few texts hold counts more than one that many hold, and a word counts more in a
    short text. 0 is no word in common, 1 is as good as a text that is the query itself.
    """
    wanted = sorted(set(words(query)))
    counted = [Counter(words(text)) for text in texts]
    if not wanted or not counted:
        return [0.0] * len(texts)
    mean_length = sum(counts.total() for counts in counted) / len(counted) or 1.0
    weights = {word: _rarity(word, counted) for word in wanted}
    best = _score(Counter(wanted), weights, mean_length)
    return [min(1.0, _score(counts, weights, mean_length) / best) for counts in counted]


def _score(counts: Counter[str], weights: dict[str, float], mean_length: float) -> float:
    held_back = _SATURATION * (1 - _LENGTH + _LENGTH * counts.total() / mean_length)
    return sum(
        weight * counts[word] * (_SATURATION + 1) / (counts[word] + held_back)
        for word, weight in weights.items()
    )


def _rarity(word: str, counted: Sequence[Counter[str]]) -> float:
    holding = sum(word in counts for counts in counted)
    return math.log(1 + (len(counted) - holding + 0.5) / (holding + 0.5))


def _singular(word: str) -> str:
    plural = len(word) >= _SHORTEST_PLURAL and word.endswith("s") and not word.endswith("ss")
    return word[:-1] if plural else word
