"""A tiny model of random weights, and prompts for it."""

import torch

from vidground.generation.prompt_batch import PromptInputs
from vidground.language.prompts import captioning_question, chat_prompt, encode_prompt
from vidground.model.configuration import D2VLMConfig
from vidground.model.d2vlm import D2VLM


def tiny_config() -> D2VLMConfig:
    part = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    return D2VLMConfig(
        vision_config={**part, "num_hidden_layers": 2, "image_size": 28},
        qformer_config={
            **part,
            "num_hidden_layers": 2,
            "vocab_size": 50,
            "encoder_hidden_size": 64,
        },
        text_config={**part, "num_hidden_layers": 5, "num_key_value_heads": 4, "vocab_size": 400},
        num_query_tokens=4,
        evidence_layer=2,
    )


def prompts(model: D2VLM, *frames: int) -> list[PromptInputs]:
    ids = encode_prompt(chat_prompt(captioning_question()), model.tokenizers)
    generator = torch.Generator().manual_seed(1)
    side = model.config.image_size
    with torch.inference_mode():
        pixels = [torch.randn(count, 3, side, side, generator=generator) for count in frames]
        question = torch.tensor([ids.question])
        tokens = [model.compress(model.encode_frames(p), question) for p in pixels]
    return [PromptInputs(ids.before, ids.after, t) for t in tokens]
