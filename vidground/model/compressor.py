"""The compressor: patch features and a question to one token per frame.

Every frame is compressed by itself, whatever its order.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from transformers import InstructBlipQFormerModel

from vidground.model.configuration import D2VLMConfig

_NORM_EPS = 1e-5
"""The released modules were built with torch's default, not with BERT's 1e-12."""

_outputs: ContextVar[dict[nn.Module, Tensor] | None] = ContextVar("outputs", default=None)
"""Outputs of every `_ImageProjection` for the frames that several questions are asked about."""


@contextmanager
def _same_frames() -> Iterator[None]:
    """Compute every `_ImageProjection` only once: all calls in the block are about one batch."""
    token = _outputs.set({})
    try:
        yield
    finally:
        _outputs.reset(token)


class _ImageProjection(nn.Linear):
    """A linear layer whose input does not depend on the question; see `_same_frames`."""

    @classmethod
    def of(cls, linear: nn.Linear) -> "_ImageProjection":
        """Return a layer with the same parameters; no random number is drawn."""
        layer = cls(linear.in_features, linear.out_features, device="meta")
        layer.weight, layer.bias = linear.weight, linear.bias
        return layer

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Apply the layer: (..., in) to (..., out)."""
        outputs = _outputs.get()
        if outputs is None:
            return super().forward(input)
        if self not in outputs:
            outputs[self] = super().forward(input)
        return outputs[self]


def _projection(
    size_in: int, size_out: int, *, linear: type[nn.Linear] = nn.Linear
) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(size_in, eps=_NORM_EPS), linear(size_in, size_out))


class FrameCompressor(nn.Module):
    """Q-Former and attention pooling to one token per frame (paper, section 3.1).

    Shapes: N frames, P patches, K learned queries, L question tokens, H the language model's width.
    """

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
        self.key_projection = _projection(width, width, linear=_ImageProjection)
        self.value_projection = _projection(width, config.text_config.hidden_size)

    def forward(self, patches: Tensor, question_ids: Tensor, question_mask: Tensor) -> Tensor:
        """Compute frame tokens of N frames, each with its question.

        Args:
            patches: (N, P, width) features of `VisionEncoder`.
            question_ids: (N or 1, L) token ids of the Q-Former's tokenizer.
            question_mask: (N or 1, L), true at tokens, false at padding.

        Returns:
            (N, H): one token per frame, in the language model's width.
        """
        frames = patches.shape[0]
        question_ids = question_ids.expand(frames, -1)  # (N, L)
        question_mask = question_mask.expand(frames, -1).to(question_ids.dtype)  # (N, L)
        queries = self.queries.expand(frames, -1, -1)  # (N, K, qformer width)
        ones = question_mask.new_ones(queries.shape[:2])  # (N, K)
        states = self.qformer(
            input_ids=question_ids,
            attention_mask=torch.cat((ones, question_mask), dim=1),  # (N, K + L)
            query_embeds=queries,
            encoder_hidden_states=self.patch_norm(patches),  # (N, P, width)
        ).last_hidden_state[:, : queries.shape[1]]  # (N, K, qformer width)
        return self._pool(patches, self.output_projection(states))  # (N, H)

    def each(self, patches: Tensor, questions: Sequence[Sequence[int]]) -> Tensor:
        """Compute frame tokens of N frames for each of Q questions.

        What depends on the frames only is computed once: 40 % of the work at the released size.

        Args:
            patches: (N, P, width) features of `VisionEncoder`.
            questions: token ids of the Q-Former's tokenizer; at least one question.

        Returns:
            (N, Q, H).
        """
        ids = [torch.tensor([list(question)], device=patches.device) for question in questions]
        with _same_frames() if len(questions) > 1 else nullcontext():
            tokens = [self(patches, question, torch.ones_like(question)) for question in ids]
        return torch.stack(tokens, dim=1)

    def _pool(self, patches: Tensor, queries: Tensor) -> Tensor:
        """Let each query add the patches that it attends to; return the mean of all queries."""
        keys = self.key_projection(patches)  # (N, P, width)
        scores = self.query_projection(queries) @ keys.transpose(-1, -2)  # (N, K, P)
        attention = (scores / patches.shape[-1] ** 0.5).softmax(-1)  # (N, K, P)
        pooled = (attention @ patches + queries).mean(1)  # (N, width)
        return torch.as_tensor(self.value_projection(pooled))  # (N, H)
