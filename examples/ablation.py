"""The ablation table on the toy world: `python examples/ablation.py FOLDER [--seeds 3]`.

What each part of the method is worth (paper, section 4.3): small models, trained alike but for one
part at a time, from several seeds, and scored on films they have not seen. The runs are far
smaller than those of the model that comes with vidground (`train_toy.py`): films of 15 to 32
seconds with one to three events, and about twenty minutes of a processor core for a seed. All runs
share what `train_toy.py` teaches before SFT: a vision part that stays as it is, and the first
layers of the language model; what differs between seeds is the rest of the language model, the
order of the samples and the rejected answers. Every model is run as it was trained: one without an
evidence stage answers at once.

TOY holds the films and what is taught, as `train_toy.py TOY` makes them; what is missing is made.
For a smaller comparison start from a finished model (`--taught toy`, the one that comes with
vidground), with fewer films (`--films 240`) and some of the rows (`--rows matching,interleaved`).
A run that is finished in FOLDER is not done again, one that was interrupted goes on. To share the
work, start seeds apart (`--first 0 --seeds 1`, `--first 1 --seeds 1`) and all together at the end.
FOLDER/ablation.json and ablation.md hold the table.
"""

import argparse
import copy
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from train_toy import CACHE_BYTES, FILMS, MEMORY_RATE, SIZE, make_films, pretrain

from vidground import D2VLM
from vidground.errors import InputError
from vidground.training.config import read_config
from vidground.training.data.perturbation import PerturbationSettings, preference_annotations
from vidground.training.evaluation.prediction_store import open_folder, read_folder
from vidground.training.evaluation.predictor import Predictor, predict
from vidground.training.evaluation.questions import load_questions
from vidground.training.evaluation.scores import EvaluationSettings, evaluate_etbench
from vidground.training.run import run_training
from vidground.training.toy.dataset import write_dataset
from vidground.training.toy.model import make_toy_model, make_toy_tokenizers

GROUNDING, CAPTIONING = ("tvg", "tal", "evs"), ("dvc", "slc")
"""Tasks of the toy world that F1(gnd) and F1(cap) are means of."""
SCORED_FILMS = 100
PREFERENCE_SAMPLES = 4000
FACTS = ("color", "shape", "action", "direction")
SCORES = ("F1(gnd)", "F1(cap)", "facts")


EVIDENCE, MATCHING = "start", "start-matching"
"""Untrained models, which differ in how they express times."""


@dataclass(frozen=True)
class Run:
    """A run of training. start: the run that it goes on from, or the untrained model."""

    objective: Literal["sft", "fpo"]
    start: str
    films: str
    tasks: tuple[str, ...]
    steps: int
    batch: int
    rate: float
    loss: Mapping[str, Any] = field(default_factory=dict)


def first_words(start: str = EVIDENCE, **parts: bool) -> Run:
    """Short films of one event: what colours and actions are called is learnt there soonest."""
    loss = {"grounding_weight": 0.3, "consistency_weight": 0.0, **parts}
    return Run("sft", start, "short", ("dvc", "tvg"), 150, 32, 1.5e-3, loss)


def longer_films(start: str, consistency: float = 0.0, **parts: bool) -> Run:
    """Films of up to three events, all tasks that are scored."""
    loss = {"grounding_weight": 1.0, "consistency_weight": consistency, **parts}
    return Run("sft", start, "middle", GROUNDING + CAPTIONING, 400, 16, 1.5e-3, loss)


WHOLE = {"grounding_weight": 1.0, "consistency_weight": 0.3}


def preferences(**factors: bool) -> Run:
    """What the finished model would rather not have said; its answers are imitated on."""
    loss = {"sft": WHOLE, **factors}
    return Run("fpo", "consistency", "middle", GROUNDING + CAPTIONING, 150, 8, 3e-4, loss)


RUNS = {
    "coupled-short": first_words(evidence_stage=False, visual_semantics=False),
    "coupled": longer_films("coupled-short", evidence_stage=False, visual_semantics=False),
    "factorized-short": first_words(visual_semantics=False),
    "factorized": longer_films("factorized-short", visual_semantics=False),
    "matching-short": first_words(MATCHING),
    "matching": longer_films("matching-short"),
    "interleaved-short": first_words(),
    "interleaved": longer_films("interleaved-short"),
    "consistency": longer_films("interleaved-short", WHOLE["consistency_weight"]),
    "fpo": preferences(),
    "fpo-grounding": preferences(text=False),
    "fpo-text": preferences(grounding=False),
    "more-sft": Run("sft", "consistency", "middle", GROUNDING + CAPTIONING, 150, 8, 3e-4, WHOLE),
}
"""In an order in which every run comes after the one it starts from."""
ROWS = {
    "coupled baseline (no evidence stage)": "coupled",
    "time tokens that match frames (E.T. Chat)": "matching",
    "+ factorized": "factorized",
    "+ interleaved evidence": "interleaved",
    "+ consistency": "consistency",
    "+ FPO": "fpo",
    "FPO, grounding factor only": "fpo-grounding",
    "FPO, text factor only": "fpo-text",
    "no FPO, imitating on for as many steps": "more-sft",
}


def main() -> None:
    """Do what is left of the runs, score them, and print the table."""
    options = parse_options()
    torch.set_num_threads(options.threads)
    toy = options.toy or options.folder / "toy"
    keep_scale(options.folder, options.scale)
    taught = options.taught
    if taught is None:
        make_films(toy)
        taught = pretrain(toy)
    else:
        make_some_films(toy, options.films)
    rows = {row: name for row, name in ROWS.items() if name in options.rows}
    runs = [name for name in RUNS if name in with_earlier(rows.values())]
    seeds = range(options.first, options.first + options.seeds)
    for seed in seeds:
        folder = options.folder / f"seed-{seed}"
        for start in (EVIDENCE, MATCHING):
            make_start(folder / start, taught, seed)
        for name in runs:
            train(folder, name, toy, seed, options.scale)
            if name in rows.values():
                score(folder / name, toy, options.scale)
    table = {row: collect(options.folder, name, seeds) for row, name in rows.items()}
    text = markdown(table, len(seeds))
    (options.folder / "ablation.json").write_text(json.dumps(table, indent=1) + "\n")
    (options.folder / "ablation.md").write_text(text)
    print(text)


def parse_options() -> argparse.Namespace:
    """FOLDER and what is not default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--toy", type=Path, help="films and vision part; default FOLDER/toy")
    parser.add_argument("--taught", help="model to take vision and memory from; default: train one")
    parser.add_argument("--films", type=int, help="of each set, with --taught; default all")
    parser.add_argument(
        "--rows",
        type=lambda text: text.split(","),
        default=list(ROWS.values()),
        help=f"of the table: {','.join(ROWS.values())}; default all",
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--threads", type=int, default=1, help="of the processor")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of all steps and scored films, for a trial"
    )
    options = parser.parse_args()
    if options.films is not None and options.taught is None:
        parser.error("--films needs --taught; what is taught is learned from all films")
    if unknown := set(options.rows) - set(ROWS.values()):
        parser.error(f"--rows has no row {', '.join(sorted(unknown))}")
    return options


def keep_scale(folder: Path, scale: float) -> None:
    """A folder holds a trial or the real thing."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "scale.json"
    if note.exists() and json.loads(note.read_text()) != scale:
        raise InputError(f"{folder} holds runs of scale {note.read_text()}; name another folder")
    note.write_text(json.dumps(scale))


def make_some_films(toy: Path, count: int | None) -> None:
    """Make the films that the runs read, at most `count` of each set."""
    for name in sorted({run.films for run in RUNS.values()}):
        videos, seed, settings = FILMS[name]
        videos = videos if count is None else min(count, videos)
        write_dataset(toy / name, videos=videos, seed=seed, size=SIZE, settings=settings)


def with_earlier(names: Iterable[str]) -> set[str]:
    """Return runs with all that they go on from."""
    found: set[str] = set()
    for name in names:
        while name in RUNS:
            found.add(name)
            name = RUNS[name].start
    return found


def make_start(out: Path, taught: str | Path, seed: int) -> None:
    """A model that sees and has never spoken: what was taught, beside random weights."""
    if (out / "model.safetensors").exists():
        return
    known = D2VLM.from_pretrained(taught, dtype=torch.float32)
    config = copy.deepcopy(known.config)
    if out.name == MATCHING:
        config.time_tokens, config.evidence_stage = "matching", False
        config.match_token_id = make_toy_tokenizers("matching").ids.evidence
    model = make_toy_model(config, seed=seed)
    first = tuple(f"language_model.layers.{n}." for n in range(known.config.evidence_layer))
    shared = ("vision.", "compressor.", "language_model.embed_tokens.", *first)
    taught_weights = {n: w for n, w in known.state_dict().items() if n.startswith(shared)}
    model.load_state_dict(taught_weights, strict=False)
    model.save_pretrained(out)


def train(folder: Path, name: str, toy: Path, seed: int, scale: float) -> None:
    """Do a run, or the rest of it, or nothing if it is finished."""
    run, out = RUNS[name], folder / name
    finished = out / "finished"
    if finished.exists():
        return
    print(f"{out}: training", flush=True)
    annotations = folder.parent / f"{run.films}-{run.objective}-{len(run.tasks)}.json"
    if not annotations.exists():
        samples = json.loads((toy / run.films / "sft.json").read_text())
        samples = [sample for sample in samples if sample["task"] in run.tasks]
        if run.objective == "fpo":
            pairs = preference_annotations(samples[:PREFERENCE_SAMPLES], PerturbationSettings())
            samples = list(pairs)
        annotations.write_text(json.dumps(samples))
    values = {
        "model.init": None,
        "model.name": str(folder / run.start),
        "data.annotations": [str(annotations)],
        "data.videos": str(toy / run.films),
        "data.rejected_seed": seed,
        "data.frames": "tokens",
        "data.cache": str(toy / "cache"),
        "data.cache_gib": CACHE_BYTES / (1 << 30),
        "parameters.trained": "language",
        "parameters.learning_rate": run.rate,
        "parameters.memory_learning_rate": MEMORY_RATE * run.rate,
        "schedule.max_steps": max(2, round(run.steps * scale)),
        "schedule.batch_size": run.batch,
        "schedule.seed": seed,
        "output.dir": str(out),
        "output.save_every": 100,
        "output.keep": 1,
        "loss": dict(run.loss),
    }
    run_training(read_config(run.objective, f"toy-{run.objective}", values), resume=out.exists())
    finished.touch()


def score(out: Path, toy: Path, scale: float) -> None:
    """Ask a run's model about films it has not seen; its scores go to scores.json."""
    if (out / "scores.json").exists():
        return
    print(f"{out}: scoring", flush=True)
    root, predictor = toy / "middle", Predictor(out)
    asked = load_questions(root / "etbench", tasks=GROUNDING + CAPTIONING)
    films = set(sorted({q.video for q in asked})[: max(2, round(SCORED_FILMS * scale))])
    questions = [question for question in asked if question.video in films]
    with open_folder(out / "answers", predictor.settings, questions) as answers:
        failed = predict(predictor, questions, root, answers)
    assert failed == 0, f"{failed} questions on {root} have no answer"
    lines = read_folder(out / "answers").predictions
    settings = EvaluationSettings(rules=("strict",), bootstrap=0)
    metrics = evaluate_etbench(lines, settings=settings).metrics
    tasks = {task: metrics["strict"]["tasks"][task]["F1"] for task in GROUNDING + CAPTIONING}
    right = metrics["facts"]["dvc"]["right"]
    scores = {
        "F1(gnd)": statistics.mean(tasks[task] for task in GROUNDING),
        "F1(cap)": statistics.mean(tasks[task] for task in CAPTIONING),
        "facts": statistics.mean(right[fact] for fact in FACTS),
        **tasks,
        **right,
        "questions": len(questions),
    }
    (out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")


def collect(folder: Path, name: str, seeds: Sequence[int]) -> dict[str, Any]:
    """A run's scores over the seeds: each, their mean, and their standard deviation."""
    each = [json.loads((folder / f"seed-{seed}/{name}/scores.json").read_text()) for seed in seeds]
    columns = {key: [scores[key] for scores in each] for key in each[0]}
    return {
        key: {
            "seeds": values,
            "mean": statistics.mean(values),
            "deviation": statistics.stdev(values) if len(values) > 1 else None,
        }
        for key, values in columns.items()
    }


def markdown(table: Mapping[str, Mapping[str, Any]], seeds: int) -> str:
    """The table, in percent."""
    columns = (*SCORES, *GROUNDING, *CAPTIONING, *FACTS)
    lines = [f"| percent, {seeds} seed(s) | {' | '.join(columns)} |"]
    lines.append("|---|" + "---|" * len(columns))
    for row, scores in table.items():
        lines.append(f"| {row} | {' | '.join(cell(scores[column]) for column in columns)} |")
    return "\n".join(lines) + "\n"


def cell(score: Mapping[str, Any]) -> str:
    """Mean ± standard deviation over the seeds."""
    mean, deviation = 100 * score["mean"], score["deviation"]
    return f"{mean:.1f}" if deviation is None else f"{mean:.1f} ± {100 * deviation:.1f}"


if __name__ == "__main__":
    main()
