"""Sizes and constants of a model, as saved in its config.json.

`vidground.checkpoints.released_format` converts released configurations. Knows no weights.
"""

from typing import Any, ClassVar

from transformers import (
    AutoConfig,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
    Phi3Config,
    PretrainedConfig,
)

from vidground.settings import OWN_MODEL_TYPE, TimeTokens


def _as(cls: type[PretrainedConfig], value: dict[str, Any] | PretrainedConfig | None) -> Any:
    if isinstance(value, dict):
        value = {k: v for k, v in value.items() if k != "model_type"}
        return cls(**value)
    return cls() if value is None else value


class D2VLMConfig(PretrainedConfig):  # type: ignore[misc]  # transformers carries no types
    """Sizes and constants of a D2VLM.

    The defaults are those of the released 3.8 B model (paper, section 4.1 and its code).

    Attributes:
        vision_config: EVA-CLIP ViT (of InstructBLIP); the output of its last block is used without
            the final norm.
        qformer_config: Q-Former of the compressor; its vocabulary has one token more than BERT's.
        text_config: Phi-3 language model.
        num_query_tokens: number of learned queries per frame.
        time_tokens: how answers express times: "evidence" for `<evi>`, which means an interval
            (D2VLM); "matching" for `<vid>`, which means one frame (E.T. Chat).
        evidence_layer: number of decoder layers before the states that are the evidence memory.
        evidence_threshold: frames below this share of the highest relevance are outside the
            interval, in (0, 1].
        target_decay: base of the relevance target's decay per frame of distance from the interval
            (alpha in the paper).
        evidence_stage: whether a response gathers evidence before it answers. A model trained
            without it answers directly, with the `<evi>` of its answer as evidence. Always false
            with "matching".
        evidence_semantics: whether a generated time token carries the content of its frames, or is
            a plain token.
        max_frames: maximum number of frames per prompt that the weights were trained on.
        evidence_token_id: `<evi>` in the language tokenizer; used with "evidence" only.
        evidence_end_token_id: `</evi>`; used with "evidence" only.
        turn_end_token_id: the token that ends an answer.
        match_token_id: `<vid>`; used with "matching" only.
    """

    model_type = OWN_MODEL_TYPE
    sub_configs: ClassVar[dict[str, Any]] = {
        "vision_config": InstructBlipVisionConfig,
        "qformer_config": InstructBlipQFormerConfig,
        "text_config": Phi3Config,
    }

    def __init__(
        self,
        vision_config: dict[str, Any] | InstructBlipVisionConfig | None = None,
        qformer_config: dict[str, Any] | InstructBlipQFormerConfig | None = None,
        text_config: dict[str, Any] | Phi3Config | None = None,
        num_query_tokens: int = 32,
        time_tokens: TimeTokens = "evidence",
        evidence_layer: int = 6,
        evidence_threshold: float = 0.6,
        target_decay: float = 2.0,
        evidence_stage: bool = True,
        evidence_semantics: bool = True,
        max_frames: int = 350,
        evidence_token_id: int = 32011,
        evidence_end_token_id: int | None = 32012,
        turn_end_token_id: int = 32007,
        match_token_id: int = 32011,
        **kwargs: Any,
    ) -> None:
        self.vision_config = _as(InstructBlipVisionConfig, vision_config)
        self.qformer_config = _as(InstructBlipQFormerConfig, qformer_config)
        self.text_config = _as(Phi3Config, text_config)
        # Phi-3 configurations contain a window of 2047 tokens that the model was never run with.
        self.text_config.sliding_window = None
        self.num_query_tokens = num_query_tokens
        self.evidence_layer = evidence_layer
        self.evidence_threshold = evidence_threshold
        self.target_decay = target_decay
        self.time_tokens = time_tokens
        self.evidence_stage = evidence_stage and time_tokens == "evidence"
        self.evidence_semantics = evidence_semantics
        self.max_frames = max_frames
        self.evidence_token_id = evidence_token_id
        self.evidence_end_token_id = evidence_end_token_id
        self.turn_end_token_id = turn_end_token_id
        self.match_token_id = match_token_id
        kwargs.setdefault("tie_word_embeddings", False)
        super().__init__(**kwargs)

    @property
    def image_size(self) -> int:
        """Side of the square frames of the vision encoder, in pixels."""
        return int(self.vision_config.image_size)

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return int(self.text_config.num_hidden_layers)

    @property
    def matching_layer(self) -> int:
        """Number of decoder layers before the states that predict times: all but one."""
        return self.layers - 1

    @property
    def matches(self) -> bool:
        """Whether time tokens are matched to single frames."""
        return bool(self.time_tokens == "matching")

    @property
    def time_token_id(self) -> int:
        """The token that expresses a time: `<evi>` or `<vid>`."""
        return int(self.match_token_id if self.matches else self.evidence_token_id)

    @property
    def memory_layer(self) -> int:
        """Number of decoder layers before the frame states that a time token's embedding adds.

        0 for the frame tokens themselves.
        """
        return 0 if self.matches else self.evidence_layer

    @property
    def frame_key_layer(self) -> int:
        """Number of decoder layers before the frame states that time tokens are compared with."""
        return self.layers if self.matches else self.matching_layer


AutoConfig.register(D2VLMConfig.model_type, D2VLMConfig)
