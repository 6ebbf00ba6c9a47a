"""Compare sentences by meaning, and split them into words.

The benchmark compares captions with the sentence encoder all-MiniLM-L6-v2. It runs through the
package sentence-transformers, which is imported only when it is used. Without the package or the
model there is no similarity: no other measure is used in its place.
"""

import importlib
import re
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from vidground.errors import CheckpointError, InputError

SENTENCE_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
"""Name on the Hugging Face hub of the sentence encoder behind the published Sim scores."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")


class TextSimilarity(Protocol):
    """Compares texts pair by pair."""

    def similarities(self, first: Sequence[str], second: Sequence[str]) -> Sequence[float]:
        """Return one number for each pair (first[i], second[i]); 1 is the same meaning."""
        ...


class SentenceSimilarity:
    """Cosine similarity of sentence embeddings, in [-1, 1].

    Args:
        model: folder or hub name of a sentence-transformers model.
        allow_download: download the model if it is neither a folder nor in the hub's cache.

    Raises:
        InputError: sentence-transformers cannot be imported.
        CheckpointError: the model is not on this machine, or cannot be read.
    """

    def __init__(self, model: str = SENTENCE_MODEL, *, allow_download: bool = False) -> None:
        try:
            package = importlib.import_module("sentence_transformers")
        except ImportError as error:
            raise InputError(
                f"text similarity needs the package sentence-transformers ({error}): "
                "pip install sentence-transformers"
            ) from error
        self._encoder = _load(package, model, allow_download=allow_download)

    def similarities(self, first: Sequence[str], second: Sequence[str]) -> list[float]:
        """Return the cosine of each pair's embeddings; every distinct text is encoded once."""
        texts = list(dict.fromkeys([*first, *second]))
        if not texts:
            return []
        rows = np.asarray(
            self._encoder.encode(texts, normalize_embeddings=True, show_progress_bar=False),
            dtype=np.float64,
        )
        row = {text: i for i, text in enumerate(texts)}
        return [float(rows[row[a]] @ rows[row[b]]) for a, b in zip(first, second, strict=True)]


def _load(package: Any, model: str, *, allow_download: bool) -> Any:
    # Imported here because it is slow. Its progress bar would mix with the command's own.
    importlib.import_module("transformers.utils.logging").disable_progress_bar()
    try:
        return package.SentenceTransformer(model, local_files_only=not allow_download)
    except (OSError, ValueError) as error:
        remedy = (
            "check the name and the connection"
            if allow_download
            else "give a folder that holds it, or download it into the hub's cache"
        )
        raise CheckpointError(f"sentence model {model!r} cannot be loaded; {remedy}") from error


def plain_words(text: str) -> list[str]:
    """Return the lower-case words of a sentence; `don't` and `two-sided` are one word each.

    Published scores were made with the Stanford tokenizer, a Java program, which splits `don't`
    into `do n't` and recognizes abbreviations. On plain captions both give the same words.
    """
    return _WORD.findall(text.lower())
