"""The compressor: patch features and a question to one token per frame.

Knows nothing of the order of frames: every frame is compressed by itself.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from transformers import InstructBlipQFormerModel

from vidground.model.configuration import D2VLMConfig

# The released modules were built with torch's default, not with BERT's 1e-12.
_NORM_EPS = 1e-5


_kept: ContextVar[dict[nn.Module, Tensor] | None] = ContextVar("kept", default=None)
"""What `_ImageProjection`s made of the images that several questions are asked of."""


@contextmanager
def _images_are_the_same() -> Iterator[None]:
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


class _ImageProjection(nn.Linear):
    """A linear layer that reads images; computed once as long as `_images_are_the_same`."""

    @classmethod
    def of(cls, linear: nn.Linear) -> "_ImageProjection":
        """The same layer, with the same weights; no random number is drawn."""
        made = cls(linear.in_features, linear.out_features, device="meta")
        made.weight, made.bias = linear.weight, linear.bias
        return made

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """(..., in) to (..., out)."""
        kept = _kept.get()
        if kept is None:
            return super().forward(input)
        if self not in kept:
            kept[self] = super().forward(input)
        return kept[self]


def _projection(
    size_in: int, size_out: int, *, read_by: type[nn.Linear] = nn.Linear
) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(size_in, eps=_NORM_EPS), read_by(size_in, size_out))


class FrameCompressor(nn.Module):
    """Q-Former and attention pooling to one token per frame (paper, section 3.1)."""

    def __init__(self, config: D2VLMConfig) -> None:
        super().__init__()
        width = config.vision_config.hidden_size
        self.queries = nn.Parameter(
            torch.zeros(1, config.num_query_tokens, config.qformer_config.hidden_size)
        )
        self.patch_norm = nn.LayerNorm(width, eps=_NORM_EPS)
        self.qformer = InstructBlipQFormerModel(config.qformer_config)
        for layer in self.qformer.encoder.layer:
            if layer.has_cross_attention:
                attention = layer.crossattention.attention
                attention.key = _ImageProjection.of(attention.key)
                attention.value = _ImageProjection.of(attention.value)
        self.output_projection = nn.Linear(config.qformer_config.hidden_size, width)
        self.query_projection = _projection(width, width)
        self.key_projection = _projection(width, width, read_by=_ImageProjection)
        self.value_projection = _projection(width, config.text_config.hidden_size)

    def forward(self, patches: Tensor, question_ids: Tensor, question_mask: Tensor) -> Tensor:
        """Frame tokens of N frames, each with its question.

        Args:
            patches: (N, patches, width) features of `VisionEncoder`.
            question_ids: (N or 1, Q) question tokens of the Q-Former's tokenizer.
            question_mask: (N or 1, Q), true at tokens, false at padding.

        Returns:
            (N, H): one token per frame, in the language model's width.
        """
        frames = patches.shape[0]
        question_ids = question_ids.expand(frames, -1)
        question_mask = question_mask.expand(frames, -1).to(question_ids.dtype)
        queries = self.queries.expand(frames, -1, -1)
        mask = torch.cat((question_mask.new_ones(queries.shape[:2]), question_mask), dim=1)
        read = self.qformer(
            input_ids=question_ids,
            attention_mask=mask,
            query_embeds=queries,
            encoder_hidden_states=self.patch_norm(patches),
        ).last_hidden_state[:, : queries.shape[1]]
        return self._pool(patches, self.output_projection(read))

    def each(self, patches: Tensor, questions: Sequence[Sequence[int]]) -> Tensor:
        """Frame tokens of N frames for each of Q questions; what frames alone decide is computed
        once, 40 % of the work at the released size.

        Args:
            patches: as in `forward`. questions: at least one, tokens of the Q-Former's tokenizer.

        Returns:
            (N, Q, H).
        """
        ids = [torch.tensor([list(question)], device=patches.device) for question in questions]
        with _images_are_the_same() if len(questions) > 1 else nullcontext():
            tokens = [self(patches, question, torch.ones_like(question)) for question in ids]
        return torch.stack(tokens, dim=1)

    def _pool(self, patches: Tensor, rows: Tensor) -> Tensor:
        """Rows gather the patches they attend to, and become one token by their mean."""
        scores = self.query_projection(rows) @ self.key_projection(patches).transpose(-1, -2)
        attention = (scores / patches.shape[-1] ** 0.5).softmax(-1)
        pooled = (attention @ patches + rows).mean(1)
        return torch.as_tensor(self.value_projection(pooled))
