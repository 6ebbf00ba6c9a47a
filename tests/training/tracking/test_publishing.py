import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from vidground.errors import InputError
from vidground.training.config import RunConfig, read_config
from vidground.training.tracking import publishing
from vidground.training.tracking.publishing import check_hub, model_card, publish


class HubStandIn:
    """Records what is uploaded; refuses with `error`."""

    def __init__(self) -> None:
        self.error: OSError | None = None
        self.created: list[tuple[str, bool]] = []
        self.uploaded: list[dict[str, Any]] = []

    def _refuse(self) -> None:
        if self.error is not None:
            raise self.error

    def whoami(self) -> dict[str, str]:
        self._refuse()
        return {"name": "me"}

    def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> str:
        self._refuse()
        assert exist_ok
        self.created.append((repository, private))
        return f"https://hub.example/{repository}"

    def upload_folder(self, **options: Any) -> None:
        self._refuse()
        self.uploaded.append(options)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> HubStandIn:
    stand_in = HubStandIn()
    monkeypatch.setattr(publishing, "HfApi", lambda: stand_in)
    return stand_in


def config(**values: Any) -> RunConfig:
    needed = {
        "model.name": "PolyU-ChenLab/ETChat-Phi3-Mini-Stage-2",
        "data.annotations": ["/home/me/secret/a.json", "b.json"],
        "data.videos": "/home/me/secret",
        "output.dir": "run",
        "output.hub": "me/model",
    }
    return read_config("sft", None, needed | values)


def test_the_model_is_uploaded_with_a_card_and_nothing_else(
    hub: HubStandIn, tmp_path: Path
) -> None:
    for name in ("config.json", "model.safetensors", "notes.txt", "log.jsonl", "curves.png"):
        (tmp_path / name).write_text("")
    (tmp_path / "qformer_tokenizer").mkdir()
    files = ("model.safetensors", "qformer_tokenizer", "config.json")
    assert publish(tmp_path, config(), files) == "https://hub.example/me/model"
    assert hub.created == [("me/model", True)]
    (upload,) = hub.uploaded
    assert (upload["repo_id"], upload["folder_path"]) == ("me/model", str(tmp_path))
    assert {p for p in upload["allow_patterns"] if not p.endswith("/*")} == {
        *files,
        "README.md",
        "curves.png",
    }


def test_a_card_says_how_the_model_was_trained_without_local_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [{"step": 1, "loss": 3.0}, {"step": 9, "loss": 1.25}, {"step": 5, "eval_loss": 2.0}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    card = model_card(config(), tmp_path)
    header = yaml.safe_load(card.split("---")[1])
    assert header["base_model"] == "PolyU-ChenLab/ETChat-Phi3-Mini-Stage-2"
    assert "| annotations | a.json, b.json |" in card
    assert "rank 128, alpha 256" in card
    assert "training loss after step 9: 1.25" in card
    assert "held-out loss after step 5: 2" in card
    assert 'Grounder("me/model")' in card
    assert "secret" not in card
    assert "A D2VLM for temporal grounding" in card
    written = {"model_type": "d2vlm", "time_tokens": "matching"}
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert "An E.T. Chat for temporal grounding" in model_card(config(), tmp_path)
    (tmp_path / "runs" / "secret").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    local = config(**{"model.name": "runs/secret"})
    assert "secret" not in model_card(local, tmp_path)


def test_a_refused_upload_says_how_to_repeat_it(hub: HubStandIn, tmp_path: Path) -> None:
    hub.error = OSError("403 Forbidden\nmore")
    with pytest.raises(InputError, match=r"could not be uploaded to me/model \(403 Forbidden\)"):
        publish(tmp_path, config(), ())
    with pytest.raises(InputError, match=r"refuses access \(403 Forbidden\); log in with"):
        check_hub("me/model")
