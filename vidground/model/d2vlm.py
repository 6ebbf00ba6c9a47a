"""The model: its parts, and how states flow through them.

The vision encoder, the Q-Former and the decoder layers are classes of transformers; the pooling to
one token per frame, the two heads and the staged run through the layers are vidground's own. Knows
neither text nor files nor the decode loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, Phi3Model, PreTrainedModel
from transformers.models.phi3.modeling_phi3 import Phi3DecoderLayer

from vidground.errors import InputError
from vidground.model.compressor import FrameCompressor
from vidground.model.configuration import D2VLMConfig
from vidground.model.evidence import best_interval, relevance
from vidground.model.kv_cache import KeyValueCache, RowCache
from vidground.model.matching import match_probabilities
from vidground.model.vision_encoder import VisionEncoder
from vidground.storage.atomic import open_to_umask

if TYPE_CHECKING:
    from vidground.language.tokenizers import Tokenizers


_CACHE = "cache" if "cache" in signature(Phi3DecoderLayer.forward).parameters else "past_key_values"
"""Name of the decoder layers' argument for the cache; transformers 5.24 warns of the older name."""


WEIGHT_CACHE = "_weight_cache"
"""Attribute that holds objects derived from the weights (`weight_memo.cached_for_weights`)."""


def _head(size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(size), nn.Linear(size, size // 2), nn.GELU(), nn.Linear(size // 2, size)
    )


@dataclass(frozen=True)
class DecoderContext:
    """Inputs that all decoder layers of one forward pass share.

    Attributes:
        rotary: cosines and sines of the positions, (B, L, D) each.
        position_ids: (B, L).
        mask: (B, 1, L, S), which positions are seen: bool for SDPA, additive for eager attention.
        cache: keys and values of earlier passes; None for no cache.
    """

    rotary: tuple[Tensor, Tensor]
    position_ids: Tensor
    mask: Tensor
    cache: KeyValueCache | RowCache | None


class D2VLM(PreTrainedModel):  # type: ignore[misc]  # transformers carries no types
    """D2VLM (paper, section 3), or E.T. Chat, which has the same parts and expresses times in
    another way (`D2VLMConfig.time_tokens`).

    The language model is run in stages, because times need states of two intermediate layers:
    layers 0 to `memory_layer`, then up to `matching_layer`, then the last layer. `evidence_head`
    reads the state that predicts a time token, `frame_head` the states of the frames that it is
    compared with.

    Attributes:
        tokenizers: saved together with the weights.
        files_digest: fingerprint of the folder that the model was loaded from; None if there is
            none, or the revision identifies the weights.
    """

    config_class = D2VLMConfig
    base_model_prefix = "d2vlm"
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ("Phi3DecoderLayer", "InstructBlipEncoderLayer", "InstructBlipQFormerLayer")

    def __init__(self, config: D2VLMConfig) -> None:
        super().__init__(config)
        text = config.text_config
        for part in (config.vision_config, config.qformer_config, text):
            part._attn_implementation = config._attn_implementation
        self.vision = VisionEncoder(config.vision_config)
        self.compressor = FrameCompressor(config)
        self.language_model = Phi3Model(text)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.frame_head = _head(text.hidden_size)
        self.evidence_head = _head(text.hidden_size)
        self.tokenizers: Tokenizers | None = None
        self.files_digest: str | None = None
        self.post_init()

    def __getstate__(self) -> dict[str, Any]:
        """Leave objects derived from the weights out of copies."""
        return {name: value for name, value in self.__dict__.items() if name != WEIGHT_CACHE}

    def get_input_embeddings(self) -> nn.Module:
        """Return the language model's token embeddings."""
        return self.language_model.embed_tokens  # type: ignore[no-any-return]

    def get_output_embeddings(self) -> nn.Linear:
        """Return the projection from states to token logits."""
        return self.lm_head

    def encode_frames(self, pixel_values: Tensor) -> Tensor:
        """Compute the patch features of normalised frames: (N, 3, S, S) to (N, patches, width)."""
        return self.vision(pixel_values)  # type: ignore[no-any-return]

    def compress(
        self, patches: Tensor, question_ids: Tensor, question_mask: Tensor | None = None
    ) -> Tensor:
        """Compute frame tokens of patch features and questions; see `FrameCompressor.forward`."""
        if question_mask is None:
            question_mask = torch.ones_like(question_ids)
        return self.compressor(patches, question_ids, question_mask)  # type: ignore[no-any-return]

    def compress_each(self, patches: Tensor, questions: Sequence[Sequence[int]]) -> Tensor:
        """Compute frame tokens for each question, (N, Q, H); see `FrameCompressor.each`."""
        return self.compressor.each(patches, questions)

    def context(
        self,
        position_ids: Tensor,
        visible: Tensor,
        cache: KeyValueCache | RowCache | None = None,
    ) -> DecoderContext:
        """Prepare a forward pass through decoder layers.

        Args:
            position_ids: (B, L), positions within each row's own sequence.
            visible: (B, L, S) bool, which of the S cached and new positions each position sees. It
                is required, because without a mask SDPA attention is causal and eager attention
                sees everything.
            cache: keys and values of earlier passes; None for no cache.
        """
        weight = self.lm_head.weight
        rotary = self.language_model.rotary_emb(weight, position_ids=position_ids)
        mask = visible.unsqueeze(1)
        if self.config._attn_implementation == "eager":
            blocked = torch.finfo(weight.dtype).min
            mask = torch.zeros(mask.shape, dtype=weight.dtype, device=mask.device).masked_fill(
                ~mask, blocked
            )
        return DecoderContext(rotary, position_ids, mask, cache)

    def run_layers(self, hidden: Tensor, start: int, stop: int, context: DecoderContext) -> Tensor:
        """Run the decoder layers from `start` to `stop` (exclusive): (B, L, H) to (B, L, H)."""
        for layer in self.language_model.layers[start:stop]:
            hidden = layer(
                hidden,
                attention_mask=context.mask,
                position_ids=context.position_ids,
                use_cache=context.cache is not None,
                position_embeddings=context.rotary,
                **{_CACHE: context.cache},
            )
        return hidden

    def find_time(
        self, states: Tensor, frame_keys: Tensor, frame_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what time tokens mean that these states predict.

        See `vidground.model.evidence` and `vidground.model.matching`.

        Args:
            states: (B, H), after `matching_layer` layers.
            frame_keys: (B, T, H), outputs of the frame head.
            frame_mask: (B, T), false at padding.

        Returns:
            Relevance of the frames, (B, T) float32, 0 at padding; and the first and last frame of
            the interval, (B,) each, inclusive.
        """
        said = self.evidence_head(states)  # (B, H)
        if self.config.matches:
            curve = match_probabilities(said, frame_keys, frame_mask)
            frame = curve.argmax(-1)
            return curve, frame, frame
        curve = relevance(said, frame_keys).masked_fill(~frame_mask, 0.0)
        threshold = self.config.evidence_threshold
        return curve, *best_interval(curve, frame_mask, threshold=threshold)

    def logits(self, hidden: Tensor) -> Tensor:
        """Compute token logits, (..., V), of the states after the last layer, (..., H)."""
        return self.lm_head(self.language_model.norm(hidden))  # type: ignore[no-any-return]

    def forward(self, inputs_embeds: Tensor, position_ids: Tensor, visible: Tensor) -> Tensor:
        """Compute the logits at every position, without a cache.

        Args:
            inputs_embeds: (B, L, H).
            position_ids: (B, L).
            visible: (B, L, L) bool; see `context`.

        Returns:
            (B, L, V).
        """
        context = self.context(position_ids, visible)
        return self.logits(self.run_layers(inputs_embeds, 0, self.config.layers, context))

    @classmethod
    def from_pretrained(  # one loader for all checkpoint forms
        cls, model: str | Path, *args: Any, **options: Any
    ) -> D2VLM:
        """Load weights and tokenizers; options are those of
        `vidground.checkpoints.loading.load_model`."""
        from vidground.checkpoints.loading import load_model

        return load_model(model, *args, **options)

    def save_pretrained(
        self, save_directory: str | Path, *, is_main_process: bool = True, **options: Any
    ) -> None:
        """Write config, safetensors and tokenizers to a folder that loads without a network.

        Weights of an earlier save in the folder are replaced, whatever their number of files. To
        upload the model, call `push_to_hub`.

        Raises:
            InputError: `push_to_hub=True`, which would upload before the tokenizers are written.
        """
        from vidground.checkpoints.model_folder import remove_weights

        if options.pop("push_to_hub", False):
            raise InputError("push_to_hub=True would leave out the tokenizers; call push_to_hub()")
        folder = Path(save_directory)
        if is_main_process and folder.is_dir():
            remove_weights(folder)
        super().save_pretrained(folder, is_main_process=is_main_process, **options)
        if is_main_process:
            open_to_umask(folder.glob("*.safetensors"))
        if self.tokenizers is not None and is_main_process:
            self.tokenizers.save(folder)


AutoModel.register(D2VLMConfig, D2VLM)
