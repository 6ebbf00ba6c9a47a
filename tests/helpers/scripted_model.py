"""A tiny model whose answers are written down: what is generated is what the test says."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
import torch

from tests.helpers.training_runs import tiny_model
from vidground.generation.generation_queue import Evidence, Generation
from vidground.generation.prompt_batch import PromptInputs
from vidground.model.d2vlm import D2VLM
from vidground.settings import DecodingSettings, TimeTokens

Said = tuple[str, Sequence[tuple[int, int]], float]
"""A response, the frames of each of its `<evi>`, and their relevance (elsewhere it is 0)."""
Script = Callable[[str, int], Said]
"""From the question and the number of earlier calls with it to what is said."""


class ScriptedModel:
    """The model, and what it was asked: questions in order, with the whole text after the frames,
    their spans, and the settings."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        script: Script,
        *,
        time_tokens: TimeTokens = "evidence",
    ) -> None:
        self.model: D2VLM = tiny_model(time_tokens=time_tokens)
        self.script = script
        self.asked: list[str] = []
        self.prompts: list[str] = []
        self.spans: list[Any] = []
        self.settings: list[DecodingSettings] = []
        self.batches: list[int] = []
        monkeypatch.setattr("vidground.inference.backends.generate_each", self._generate)

    def _generate(
        self,
        model: D2VLM,
        prompts: Iterable[PromptInputs],
        settings: DecodingSettings,
        _size: object,
        **_: object,
    ) -> Iterator[Generation]:
        assert model is self.model
        asked = list(prompts)
        self.batches.append(len(asked))
        return iter([self._answer(prompt, settings) for prompt in asked])

    def _answer(self, prompt: PromptInputs, settings: DecodingSettings) -> Generation:
        tokenizers = self.model.tokenizers
        assert tokenizers is not None
        question = tokenizers.decode(prompt.after).partition("<|end|>")[0].strip()
        text, spans, score = self.script(question, self.asked.count(question))
        self.asked.append(question)
        self.prompts.append(tokenizers.decode(prompt.after))
        self.spans.append(list(prompt.spans))
        self.settings.append(settings)
        ids = [*tokenizers.encode(text), tokenizers.ids.turn_end]
        positions = [i for i, token in enumerate(ids) if token == tokenizers.ids.evidence]
        frames = len(prompt.frame_tokens)
        evidence = []
        for position, (first, last) in zip(positions, spans, strict=True):
            curve = torch.zeros(frames)
            curve[first : last + 1] = score
            matched = (first,) if self.model.config.matches else ()
            evidence.append(Evidence(position, first, last, curve, matched))
        return Generation(ids, tuple(evidence), torch.zeros(frames), truncated=False)
