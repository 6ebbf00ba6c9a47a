"""The vision encoder: frames to patch features, independent of the question and the time."""

import torch
from torch import Tensor, nn
from transformers import InstructBlipVisionConfig
from transformers.models.instructblip.modeling_instructblip import (
    InstructBlipEncoderLayer,
    InstructBlipVisionEmbeddings,
)


class VisionEncoder(nn.Module):
    """EVA-CLIP ViT without its last block and final norm (paper, section 4.1)."""

    def __init__(self, config: InstructBlipVisionConfig) -> None:
        super().__init__()
        self.embeddings = InstructBlipVisionEmbeddings(config)
        self.layers = nn.ModuleList(
            InstructBlipEncoderLayer(config) for _ in range(config.num_hidden_layers)
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Compute the patch features of frames.

        Args:
            pixel_values: (N, 3, S, S), normalised by `preprocessing.normalize`.

        Returns:
            (N, patches, width): one feature per patch, without the class token, not normalised.
        """
        hidden = self.embeddings(pixel_values)  # (N, 1 + patches, width)
        for layer in self.layers:
            hidden = layer(hidden)
        return torch.as_tensor(hidden)[:, 1:]
