"""The model: its parts and how states flow through them. Knows no text, no files, no decode loop.

The vision encoder, the Q-Former and the decoder layers are transformers' classes; the pooling
to one token per frame, the two heads and the staged run through the layers are ours.
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
"""What decoder layers call the cache; transformers 5.24 warns of the older name."""


WEIGHT_CACHE = "_weight_cache"
"""Attribute that holds objects derived from the weights (`weight_memo.cached_for_weights`)."""


def _head(size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(size), nn.Linear(size, size // 2), nn.GELU(), nn.Linear(size // 2, size)
    )


@dataclass(frozen=True)
class DecoderContext:
    """What every decoder layer of one pass shares.

    rotary: cosines and sines of the positions. mask: (B, 1, L, S) what a position may see,
    bool for SDPA, additive for eager attention. cache: keys and values of earlier passes.
    """

    rotary: tuple[Tensor, Tensor]
    position_ids: Tensor
    mask: Tensor
    cache: KeyValueCache | RowCache | None


class D2VLM(PreTrainedModel):  # type: ignore[misc]  # transformers carries no types
    """Factorized temporal grounding and answering (paper, section 3); or E.T. Chat, which has the
    same parts and says times in another way (`D2VLMConfig.time_tokens`).

    The language model is run in stages, so that the two states that times need are taken
    where they arise: `run_layers(0, memory_layer)`, then up to `matching_layer`, then the
    last layer. `evidence_head` reads the state that predicts a time token, `frame_head` those of
    the frames it is compared with. `tokenizers` travel with the weights when the model is saved.
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
        self.files_digest: str | None = None  # of a folder it was loaded from
        self.post_init()

    def __getstate__(self) -> dict[str, Any]:
        """Leave objects derived from the weights out of copies."""
        return {name: value for name, value in self.__dict__.items() if name != WEIGHT_CACHE}

    def get_input_embeddings(self) -> nn.Module:
        """The language model's token embeddings."""
        return self.language_model.embed_tokens  # type: ignore[no-any-return]

    def get_output_embeddings(self) -> nn.Linear:
        """The projection from states to token logits."""
        return self.lm_head

    def encode_frames(self, pixel_values: Tensor) -> Tensor:
        """Patch features P of normalised frames: (N, 3, S, S) to (N, patches, width)."""
        return self.vision(pixel_values)  # type: ignore[no-any-return]

    def compress(
        self, patches: Tensor, question_ids: Tensor, question_mask: Tensor | None = None
    ) -> Tensor:
        """Frame tokens of patch features read with a question; see `FrameCompressor`."""
        if question_mask is None:
            question_mask = torch.ones_like(question_ids)
        return self.compressor(patches, question_ids, question_mask)  # type: ignore[no-any-return]

    def compress_each(self, patches: Tensor, questions: Sequence[Sequence[int]]) -> Tensor:
        """Frame tokens for each question, (N, Q, H); see `FrameCompressor.each`."""
        return self.compressor.each(patches, questions)

    def context(
        self,
        position_ids: Tensor,
        visible: Tensor,
        cache: KeyValueCache | RowCache | None = None,
    ) -> DecoderContext:
        """Prepare a pass through decoder layers.

        Args:
            position_ids: (B, L) positions within each row's own sequence.
            visible: (B, L, S) bool, which of the S cached and new positions a position sees. There
                is no pass without it: for a missing mask transformers' SDPA attention is causal
                and its eager attention sees everything.
            cache: where keys and values are kept; None for a pass that stands alone.
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
        """Run decoder layers start … stop - 1: (B, L, H) state `start` to state `stop`."""
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
        """What time tokens predicted by these states stand for.

        Args:
            states: (B, H) that predict a token, after `matching_layer` layers.
            frame_keys: (B, T, H) outputs of the frame head.
            frame_mask: (B, T), false at padding.

        Returns:
            the relevance of the frames, (B, T) float32, 0 at padding; and the first and last frame,
            (B,) each, inclusive. See `vidground.model.evidence` and `vidground.model.matching`.
        """
        said = self.evidence_head(states)
        if self.config.matches:
            curve = match_probabilities(said, frame_keys, frame_mask)
            frame = curve.argmax(-1)
            return curve, frame, frame
        curve = relevance(said, frame_keys).masked_fill(~frame_mask, 0.0)
        threshold = self.config.evidence_threshold
        return curve, *best_interval(curve, frame_mask, threshold=threshold)

    def logits(self, hidden: Tensor) -> Tensor:
        """Token logits, (..., V), of states that left the last layer."""
        return self.lm_head(self.language_model.norm(hidden))  # type: ignore[no-any-return]

    def forward(self, inputs_embeds: Tensor, position_ids: Tensor, visible: Tensor) -> Tensor:
        """Logits at every position of embedded sequences, without a cache.

        Args:
            inputs_embeds: (B, L, H). position_ids: (B, L). visible: (B, L, L) bool.

        Returns:
            (B, L, V).
        """
        layers = self.config.text_config.num_hidden_layers
        context = self.context(position_ids, visible)
        return self.logits(self.run_layers(inputs_embeds, 0, layers, context))

    @classmethod
    def from_pretrained(  # one loader for all checkpoint forms
        cls, model: str | Path, *args: Any, **options: Any
    ) -> D2VLM:
        """Load weights and tokenizers; see `vidground.checkpoints.loading.load_model` for the
        options."""
        from vidground.checkpoints.loading import load_model

        return load_model(model, *args, **options)

    def save_pretrained(
        self, save_directory: str | Path, *, is_main_process: bool = True, **options: Any
    ) -> None:
        """Write config, safetensors and tokenizers; the folder loads without a network.

        Weights of an earlier save in the folder are replaced, whatever their number of files.
        To upload, call `push_to_hub`.

        Raises:
            InputError: for `push_to_hub=True`, which would upload before the tokenizers are there.
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
