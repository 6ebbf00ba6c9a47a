"""Models without an evidence stage, or whose `<evi>` are plain tokens, run as they are trained."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.helpers.nearly import ROUNDING
from tests.helpers.scripted_model import Said, ScriptedModel
from tests.helpers.tokenizer_files import released_checkpoint
from tests.helpers.training_cases import golden_model
from tests.helpers.video_files import make_video
from vidground import DenseCaptioner, Grounder
from vidground.generation.generation_queue import Generation, TokenChooser, generate
from vidground.generation.prompt_batch import PromptInputs
from vidground.language.response_parsing import (
    Segment,
    answer_text,
    caption_segments,
    parse_answer,
    released_text,
)
from vidground.language.tokenizers import Tokenizers
from vidground.model.configuration import D2VLMConfig
from vidground.model.d2vlm import D2VLM
from vidground.settings import DecodingSettings
from vidground.training.data.collation import Collator
from vidground.training.data.samples import Response, SftSample, TrainingPrompt
from vidground.training.evaluation.predictor import Predictor
from vidground.training.evaluation.questions import Question
from vidground.training.objectives.forward import run_responses
from vidground.training.objectives.settings import SftSettings

BEFORE, AFTER, QUESTION = [7, 8, 9], [11, 12], [5, 6]
FRAMES = 6


@pytest.fixture(scope="module")
def model() -> D2VLM:
    return golden_model().eval()


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    return Tokenizers.load(released_checkpoint(tmp_path_factory.mktemp("model")))


def patches_of(model: D2VLM) -> Tensor:
    vision = model.config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    generator = torch.Generator().manual_seed(3)
    return torch.randn(FRAMES, patches, vision.hidden_size, generator=generator)


def said_by(
    model: D2VLM, answer: Sequence[int], monkeypatch: pytest.MonkeyPatch
) -> tuple[Generation, Tensor]:
    """What generation makes of a given answer, and the log-probability of its tokens."""
    seen: list[Tensor] = []

    class Scripted(TokenChooser):
        def choose(self, logits: Tensor) -> Tensor:
            seen.append(logits[0].log_softmax(-1))
            return torch.tensor([answer[len(seen) - 1]])

    monkeypatch.setattr("vidground.generation.generation_queue.TokenChooser", Scripted)
    with torch.inference_mode():
        frames = model.compress(patches_of(model), torch.tensor([QUESTION]))
    prompt = PromptInputs(BEFORE, AFTER, frames)
    (generation,) = generate(model, [prompt], DecodingSettings(max_new_tokens=len(answer)))
    assert generation.token_ids == list(answer)
    probabilities = torch.stack(seen).gather(1, torch.tensor(answer)[:, None])[:, 0]
    return generation, probabilities


@pytest.mark.parametrize("semantics", [True, False])
def test_an_answer_is_generated_as_it_is_trained(
    model: D2VLM, semantics: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence, stage_end = model.config.evidence_token_id, model.config.evidence_end_token_id
    answer = [40, evidence, 41, evidence, 42, model.config.turn_end_token_id]
    monkeypatch.setattr(model.config, "evidence_semantics", semantics)
    generation, found = said_by(model, answer, monkeypatch)
    settings = SftSettings(evidence_stage=False, visual_semantics=semantics)
    spans = [(float(item.first), float(item.last)) for item in generation.evidence]
    sample = SftSample(
        TrainingPrompt(BEFORE, AFTER, QUESTION, patches_of(model)),
        Response([evidence, evidence, stage_end, *answer], spans),
    )
    batch = Collator.of(model.config, settings)([sample])
    (outputs,) = run_responses(model, batch, visual_semantics=semantics)
    torch.testing.assert_close(found, outputs.log_probs[0].detach(), rtol=0, atol=ROUNDING)


def test_semantics_change_what_follows_the_evidence_only(
    model: D2VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = [40, model.config.evidence_token_id, 41, model.config.turn_end_token_id]
    _, full = said_by(model, answer, monkeypatch)
    monkeypatch.setattr(model.config, "evidence_semantics", False)
    _, plain = said_by(model, answer, monkeypatch)
    assert torch.equal(full[:2], plain[:2])
    assert (full[2:] - plain[2:]).abs().min() > 1e-4


def test_a_configuration_keeps_both_and_an_older_one_has_both(tmp_path: Path) -> None:
    D2VLMConfig(evidence_stage=False, evidence_semantics=False).save_pretrained(tmp_path)
    read = D2VLMConfig.from_pretrained(tmp_path)
    assert (read.evidence_stage, read.evidence_semantics) == (False, False)
    older = {k: v for k, v in D2VLMConfig().to_dict().items() if not k.startswith("evidence_s")}
    read = D2VLMConfig.from_dict(older)
    assert (read.evidence_stage, read.evidence_semantics) == (True, True)


def test_an_answer_at_once_is_no_problem(tokenizers: Tokenizers) -> None:
    tokens = tokenizers.encode("<evi>, stir. <evi>, serve.<|end|>")
    ids, decode = tokenizers.ids, tokenizers.decode
    parsed = parse_answer(tokens, ids=ids, decode=decode, evidence_stage=False)
    assert parsed.evidence == parsed.answer_evidence == (0, 1)
    assert parsed.segments == (Segment(0, ", stir."), Segment(1, ", serve."))
    assert (parsed.balanced, parsed.problems) == (True, ())
    assert caption_segments(parsed) == [(0, "stir"), (1, "serve")]
    with_stage = parse_answer(tokens, ids=ids, decode=decode)
    assert len(with_stage.problems) == 2


def test_without_the_stage_its_end_is_a_problem_and_hides_nothing(tokenizers: Tokenizers) -> None:
    tokens = tokenizers.encode("It happens in <evi></evi>.<|end|>")
    ids, decode = tokenizers.ids, tokenizers.decode
    parsed = parse_answer(tokens, ids=ids, decode=decode, evidence_stage=False)
    assert parsed.answer_evidence == (0,)
    (problem,) = parsed.problems
    assert "(ends of the search for events: 1, expected: 0)" in problem
    text = answer_text(tokens, [(3.0, 9.0)], ids=ids, decode=decode, evidence_stage=False)
    assert text == "It happens in 3 - 9 s."
    said = released_text(tokens, [(3.0, 9.0)], ids=ids, decode=decode, evidence_stage=False)
    assert said == "</evi> It happens in 3 - 9 ."


def at_once(text: str, _: int) -> Said:
    if "densly" in text:
        return "<evi>, a red circle grows. <evi>, a blue square spins.", [(1, 3), (5, 9)], 0.75
    return "The event happens in <evi>.", [(2, 5)], 0.75


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "a.mp4", frames=60, fps=5)


def test_everything_reads_an_answer_at_once(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedModel(monkeypatch, at_once).model
    model.config.evidence_stage = False
    result = Grounder(model).query(video, "a circle")
    assert [(m.start_s, m.end_s) for m in result.moments] == [(2.0, 5.0)]
    assert (result.answer, result.warnings) == ("The event happens in 2 - 5 s.", ())
    captions = DenseCaptioner(model).caption(video)
    told = [(event.start_s, event.end_s, event.text) for event in captions]
    assert told == [(1.0, 3.0, "a red circle grows"), (5.0, 9.0, "a blue square spins")]
    assert captions.warnings == ()
    fields = {"task": "tvg", "source": "toy", "idx": 0, "video": "a.mp4", "text": "When?"}
    (line,) = Predictor(model).answer(video, [Question(fields=fields, **fields)])
    assert line[1]["a"] == "</evi> The event happens in 2 - 5 ."
    assert "warnings" not in line[1]
