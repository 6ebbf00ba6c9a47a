"""Score a model on toy films it has not seen: `python examples/score_toy.py MODEL DATA [FILMS]`.

DATA is the folder that `train_toy.py` made its films in. Prints the grounding F1 of E.T. Bench
(tvg), the F1 of dense captions at IoU 0.5 (dvc), and how often the caption of an event that was
found names the right colour, shape, action and direction.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from vidground import Captions, DenseCaptioner, Grounder
from vidground.training.interval_metrics import harmonic_mean, iou_matrix
from vidground.training.toy_captions import facts

THRESHOLDS = (0.1, 0.3, 0.5, 0.7)
FACTS = ("color", "shape", "action", "direction")


def grounding_iou(grounder: Grounder, root: Path, sample: dict[str, Any]) -> float:
    """IoU of the best moment with the target; a query that finds nothing scores 0."""
    found = re.search("sentence: '(.*?)'", sample["q"])
    assert found, sample["q"]
    result = grounder.query(root / sample["video"], found[1])
    spans = [(moment.start_s, moment.end_s) for moment in result.moments[:1]]
    return float(iou_matrix(spans, [tuple(sample["tgt"])])[0, 0]) if spans else 0.0


def caption_scores(captions: Captions, sample: dict[str, Any]) -> tuple[float, float, list[Any]]:
    """Precision, recall, and for each event that was found which facts are right."""
    spans = [(event.start_s, event.end_s) for event in captions]
    ious = iou_matrix(spans, [tuple(target) for target in sample["tgt"]])
    if not spans:
        return 0.0, 0.0, []
    right = []
    for event, target in zip(*np.nonzero(ious >= 0.5), strict=True):
        said, true = facts(captions.events[event].text), facts(sample["g"][target])
        right.append([getattr(said, fact) == getattr(true, fact) for fact in FACTS])
    return float((ious > 0.5).any(1).mean()), float((ious > 0.5).any(0).mean()), right


def main() -> None:
    """Score the model and print a line per measure."""
    root = Path(sys.argv[2])
    films = int(sys.argv[3]) if len(sys.argv) > 3 else None
    tasks = {
        task: json.loads((root / "etbench" / f"{task}.json").read_text())[:films]
        for task in ("tvg", "dvc")
    }
    grounder = Grounder(sys.argv[1])
    captioner = DenseCaptioner(grounder.engine.model)
    ious = np.array([grounding_iou(grounder, root, sample) for sample in tasks["tvg"]])
    f1 = np.mean([(ious >= threshold).mean() for threshold in THRESHOLDS])
    print(f"tvg: F1 {f1:.3f}, mean IoU {ious.mean():.3f}, {len(ious)} queries")
    scores = [
        caption_scores(captioner.caption(root / sample["video"]), sample) for sample in tasks["dvc"]
    ]
    precision, recall = np.mean([s[0] for s in scores]), np.mean([s[1] for s in scores])
    print(f"dvc: F1 {harmonic_mean(float(precision), float(recall)):.3f}, {len(scores)} films")
    shares = np.mean([row for score in scores for row in score[2]], axis=0)
    print(", ".join(f"{fact} {share:.2f}" for fact, share in zip(FACTS, shares, strict=True)))


if __name__ == "__main__":
    main()
