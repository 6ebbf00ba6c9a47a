"""The compressor: patch features and a question to one token per frame.

Knows nothing of the order of frames: every frame is compressed by itself.
"""

import torch
from torch import Tensor, nn
from transformers import InstructBlipQFormerModel

from vidground.configuration import D2VLMConfig

# The released modules were built with torch's default, not with BERT's 1e-12.
_NORM_EPS = 1e-5


def _projection(size_in: int, size_out: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(size_in, eps=_NORM_EPS), nn.Linear(size_in, size_out))


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
        self.output_projection = nn.Linear(config.qformer_config.hidden_size, width)
        self.query_projection = _projection(width, width)
        self.key_projection = _projection(width, width)
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

    def _pool(self, patches: Tensor, rows: Tensor) -> Tensor:
        """Rows gather the patches they attend to, and become one token by their mean."""
        scores = self.query_projection(rows) @ self.key_projection(patches).transpose(-1, -2)
        attention = (scores / patches.shape[-1] ** 0.5).softmax(-1)
        pooled = (attention @ patches + rows).mean(1)
        return torch.as_tensor(self.value_projection(pooled))
