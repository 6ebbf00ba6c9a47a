"""The toy model: short prompts, any text encodable, the same by seed, and fit to be trained."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidground import Grounder
from vidground.checkpoints.loading import load_model
from vidground.errors import InputError
from vidground.language.prompts import chat_prompt, encode_prompt, grounding_question
from vidground.language.tokenizers import Tokenizers, check_sizes
from vidground.model.d2vlm import D2VLM
from vidground.training.data.collation import Collator
from vidground.training.data.samples import Response, SftSample, TrainingPrompt
from vidground.training.objectives.settings import SftSettings
from vidground.training.objectives.sft import sft_losses
from vidground.training.toy.dataset import toy_film
from vidground.training.toy.model import MAX_POSITIONS, make_toy_model, toy_config
from vidground.training.toy.questions import ToyQuestion, questions, vocabulary
from vidground.training.toy.tokenizers import make_toy_tokenizers

TOKENIZERS = make_toy_tokenizers()


def small_model(seed: int = 0) -> D2VLM:
    config = toy_config(
        image_size=32, patch_size=16, vision_layers=1, vision_width=32, text_layers=4,
        text_width=32,
    )  # fmt: skip
    return make_toy_model(config, seed=seed)


def asked(films: int = 12) -> list[ToyQuestion]:
    return [
        question
        for index in range(films)
        for question in questions(toy_film(0, "train", index).video, np.random.default_rng(index))
    ]


@pytest.mark.parametrize("word", [word for word in vocabulary() if word.isalpha()])
def test_every_word_of_the_toy_world_is_one_token(word: str) -> None:
    assert len(TOKENIZERS.encode(word)) == 1
    assert len(TOKENIZERS.encode(f"{word} {word}")) == 2


def test_the_compressor_reads_only_what_tells_questions_apart() -> None:
    what = [
        grounding_question(caption) for caption in ("a red circle grows", "a red circle blinks")
    ]
    tokens = [TOKENIZERS.question.convert_ids_to_tokens(TOKENIZERS.question_ids(q)) for q in what]
    assert tokens[0] == ["[CLS]", "sentence", "red", "circle", "grows", "[SEP]"]
    assert tokens[1] == ["[CLS]", "sentence", "red", "circle", "blinks", "[SEP]"]
    spelled = TOKENIZERS.question.convert_ids_to_tokens(TOKENIZERS.question_ids("A dog!"))
    assert spelled == ["[CLS]", "d", "##o", "##g", "[SEP]"]


def test_prompts_of_the_toy_world_are_short_and_read_back() -> None:
    for item in asked():
        references = item.question.count("<evi>")
        prompt = chat_prompt(item.question, references=references)
        ids = encode_prompt(prompt, TOKENIZERS)
        longest = len(item.question.split()) + 40  # a token for each word, some for punctuation
        assert len(ids.before) + len(ids.after) <= longest
        assert TOKENIZERS.decode(ids.after).startswith(f"\n{item.question}<|end|>")
        assert ids.after.count(TOKENIZERS.ids.evidence) == references
        answer = TOKENIZERS.encode(item.answer)
        assert TOKENIZERS.decode(answer) == item.answer
        assert answer.count(TOKENIZERS.ids.evidence_end) == 1
        assert TOKENIZERS.question.unk_token_id not in ids.question


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(deadline=None, max_examples=200)
def test_any_text_is_encoded_without_loss(text: str) -> None:
    if "<" in text or "▁" in text:  # control tokens; and what stands for a space
        return
    ids = TOKENIZERS.encode(text)
    assert TOKENIZERS.decode(ids) == text
    assert TOKENIZERS.language is not None
    assert TOKENIZERS.language.unk_token_id not in ids


def test_chat_tokens_take_the_line_break_that_follows_them() -> None:
    ids = TOKENIZERS.encode("<|assistant|>\nThe")
    assert ids == [*TOKENIZERS.encode("<|assistant|>"), *TOKENIZERS.encode("The")]


def test_tokenizers_are_the_same_in_every_call_and_after_saving(tmp_path: Path) -> None:
    TOKENIZERS.save(tmp_path)
    again, loaded = make_toy_tokenizers(), Tokenizers.load(tmp_path)
    for other in (again, loaded):
        assert other.ids == TOKENIZERS.ids
        assert other.language is not None
        assert TOKENIZERS.language is not None
        assert other.language.get_vocab() == TOKENIZERS.language.get_vocab()
        assert other.question.get_vocab() == TOKENIZERS.question.get_vocab()
        for text in ("A red circle, naïve ☃\n<evi>", *(item.answer for item in asked(2))):
            assert other.encode(text) == TOKENIZERS.encode(text)
            assert other.question_ids(text) == TOKENIZERS.question_ids(text)
    sizes = (len(TOKENIZERS.language.get_vocab()), len(TOKENIZERS.question.get_vocab()))
    assert 512 <= sizes[0] <= 1024
    assert sizes[1] <= 512


def test_a_seed_makes_a_model() -> None:
    before = torch.random.get_rng_state()
    model, same, other = small_model(3), small_model(3), small_model(4)
    assert torch.random.get_rng_state().equal(before)
    assert all(tensor.equal(same.state_dict()[name]) for name, tensor in model.state_dict().items())
    different = [
        name
        for name, tensor in model.named_parameters()
        if not tensor.equal(other.state_dict()[name])
    ]
    assert {"compressor.queries", "vision.embeddings.position_embedding"} <= set(different)


def test_the_default_size() -> None:
    config = toy_config()
    with torch.device("meta"):
        model = D2VLM(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert 2_000_000 <= parameters <= 5_000_000
    assert config.max_frames + 300 <= config.text_config.max_position_embeddings == MAX_POSITIONS
    assert config.evidence_layer < config.matching_layer
    check_sizes(
        TOKENIZERS,
        language_rows=config.text_config.vocab_size,
        question_rows=config.qformer_config.vocab_size,
    )
    ids = TOKENIZERS.ids
    assert (config.evidence_token_id, config.evidence_end_token_id) == (
        ids.evidence,
        ids.evidence_end,
    )
    assert config.turn_end_token_id == ids.turn_end


@pytest.mark.parametrize(
    "sizes", [{"patch_size": 11}, {"vision_width": 100}, {"text_width": 0}, {"text_layers": 1}]
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(sizes)).split('_')[0]}|image_size 64"):
        toy_config(**sizes)


def test_a_saved_model_loads_and_answers(tmp_path: Path) -> None:
    model = small_model()
    model.half().save_pretrained(tmp_path)
    loaded = load_model(tmp_path, local_files_only=True)
    assert loaded.dtype == torch.float16
    for name, tensor in model.state_dict().items():
        assert tensor.equal(loaded.state_dict()[name])
    grounder = Grounder(tmp_path, device="cpu")
    assert grounder.engine.tokenizers.ids == TOKENIZERS.ids


def overfit_samples() -> list[SftSample]:
    """One film that is dark, then bright; where it is bright, and where it is dark."""
    noise = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 100
    noise[6:] += 150
    frames = noise.to(torch.uint8)
    samples = []
    for question, span in (("blue right", (6, 11)), ("red left", (0, 5))):
        prompt = encode_prompt(chat_prompt(question), TOKENIZERS)
        answer = TOKENIZERS.encode(f"<evi></evi>The event happens in <evi> {question}.<|end|>")
        samples.append(
            SftSample(
                TrainingPrompt(prompt.before, prompt.after, prompt.question, frames),
                Response(answer, [span]),
            )
        )
    return samples


def test_every_parameter_learns() -> None:
    model = small_model()
    collate = Collator.of(model.config, SftSettings())
    loss = sft_losses(model, collate(overfit_samples()), SftSettings()).total(SftSettings())
    loss.backward()
    still = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or parameter.grad.abs().max() < 1e-9
    }
    # A bias of all keys moves all scores alike; of the question's last states none is used.
    keys = ("key.bias", "key_projection.0.bias", "key_projection.1.bias")
    idle = {name for name in still if name.endswith(keys)}
    last = "compressor.qformer.encoder.layer.1."
    idle |= {name for name in still if name.startswith((f"{last}intermediate.", f"{last}output."))}
    assert still == idle


def test_two_samples_are_learnt() -> None:
    model = small_model().train()
    objective = SftSettings()
    batch = Collator.of(model.config, objective)(overfit_samples())
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    first = None
    for _ in range(100):
        losses = sft_losses(model, batch, objective)
        optimizer.zero_grad()
        losses.total(objective).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        first = first if first is not None else losses
    assert first is not None
    before, after = (
        (found.cross_entropy.detach().sum() / found.counts.tokens).item()
        for found in (first, losses)
    )
    assert before > 6
    assert after < 1.5
    assert losses.grounding.detach().sum() < 0.7 * first.grounding.detach().sum()
