import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from vidground.errors import CheckpointError, InputError
from vidground.training.evaluation.text_similarity import (
    SENTENCE_MODEL,
    SentenceSimilarity,
    plain_words,
)

VECTORS = {"stir": [1.0, 0.0], "mix": [0.6, 0.8], "serve": [0.0, 1.0]}


def install(monkeypatch: pytest.MonkeyPatch, known: str) -> list[Any]:
    """A stand-in for the package that knows one model; returns what it was asked."""
    asked: list[Any] = []

    class SentenceTransformer:
        def __init__(self, model: str, *, local_files_only: bool) -> None:
            asked.append((model, local_files_only))
            if model != known:
                raise OSError(f"{model} is not here")

        def encode(
            self, texts: list[str], *, normalize_embeddings: bool, show_progress_bar: bool
        ) -> np.ndarray:
            assert normalize_embeddings
            assert not show_progress_bar
            asked.append(texts)
            return np.array([VECTORS[text] for text in texts], dtype=np.float32)

    package = ModuleType("sentence_transformers")
    package.SentenceTransformer = SentenceTransformer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", package)
    return asked


def test_pairs_are_compared_and_every_text_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = install(monkeypatch, SENTENCE_MODEL)
    similarity = SentenceSimilarity()
    found = similarity.similarities(["stir", "stir", "mix"], ["stir", "mix", "serve"])
    assert found == pytest.approx([1.0, 0.6, 0.8])
    assert asked == [(SENTENCE_MODEL, True), ["stir", "mix", "serve"]]
    assert similarity.similarities([], []) == []


def test_nothing_is_downloaded_unless_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = install(monkeypatch, "folder")
    SentenceSimilarity("folder")
    SentenceSimilarity("folder", allow_download=True)
    assert asked == [("folder", True), ("folder", False)]
    with pytest.raises(CheckpointError, match="'elsewhere' cannot be loaded; give a folder"):
        SentenceSimilarity("elsewhere")
    with pytest.raises(CheckpointError, match="check the name and the connection"):
        SentenceSimilarity("elsewhere", allow_download=True)


def test_a_missing_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match="pip install sentence-transformers"):
        SentenceSimilarity()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Stir the pot, slowly!", ["stir", "the", "pot", "slowly"]),
        ("don't over-cook 2 eggs...", ["don't", "over-cook", "2", "eggs"]),
        ("Sauté (the) _onions_ - ", ["sauté", "the", "onions"]),
        ("?!", []),
    ],
)
def test_plain_words(text: str, words: list[str]) -> None:
    assert plain_words(text) == words
