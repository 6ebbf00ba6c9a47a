"""Models are told apart by what they are loaded from, without being loaded."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from vidground.checkpoints.fingerprint import (
    folder_fingerprint,
    known_commit,
    model_fingerprint,
    recorded_name,
)

COMMIT = "0123456789abcdef" * 2 + "01234567"


def test_a_fingerprint_depends_on_the_models_files_only(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(9 << 20))  # so large that it is sampled
    first = folder_fingerprint(tmp_path)
    (tmp_path / "train.log").touch()
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / "config.json").touch()
    assert folder_fingerprint(tmp_path) == first
    assert folder_fingerprint(tmp_path, "checkpoint-1") != first
    trained = bytes(5 << 20) + b"\1" * (4 << 20)
    (tmp_path / "model.safetensors").write_bytes(trained)
    second = folder_fingerprint(tmp_path)
    assert second != first
    (tmp_path / "qformer_tokenizer").mkdir()
    (tmp_path / "qformer_tokenizer" / "vocab.txt").write_text("a")
    assert folder_fingerprint(tmp_path) not in (first, second)


def test_bundled_models_have_a_fingerprint_and_hub_models_do_not() -> None:
    assert len(model_fingerprint("toy") or "") == 64
    assert model_fingerprint("owner/name") is None
    assert model_fingerprint("d2vlm") is None


def test_a_folder_that_is_called_like_a_known_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundled = model_fingerprint("toy")
    for name in ("toy", "d2vlm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "etbench.json").write_text("[]")
    assert model_fingerprint("toy") == bundled
    assert model_fingerprint("d2vlm") is None
    for name in ("toy", "d2vlm"):
        (tmp_path / name / "config.json").write_text("{}")
        assert model_fingerprint(name) == folder_fingerprint(tmp_path / name) != bundled
    assert recorded_name("d2vlm") == "d2vlm"


def test_all_names_of_a_model_are_recorded_as_one() -> None:
    same = {recorded_name(name) for name in ("d2vlm", "D2VLM", "wenzhengzeng/D2VLM-Models")}
    assert same == {"wenzhengzeng/D2VLM-Models"}  # as older records have it
    other = {recorded_name(name) for name in ("d2vlm-mcqa", "D2VLM_mcqa_enhanced")}
    assert other == {"d2vlm-mcqa"}
    for name in ("toy", "someone/model", "wenzhengzeng/D2VLM-Models/D2VLM", "./d2vlm"):
        assert recorded_name(name) == name


def test_the_commit_of_a_model_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert known_commit("owner/name", None) is None
    assert known_commit("owner/name", COMMIT) == COMMIT
    refs = tmp_path / "models--owner--name" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(COMMIT)
    (refs / "odd").write_text("no commit")
    assert known_commit("owner/name/sub/folder", None) == COMMIT
    assert known_commit("owner/name", "odd") is None
    assert known_commit("owner/name", "v1") is None
    assert known_commit("d2vlm-mcqa", None) is None
    refs = tmp_path / "models--wenzhengzeng--D2VLM-Models" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(COMMIT)
    for name in ("d2vlm", "d2vlm-mcqa", "wenzhengzeng/D2VLM-Models"):
        assert known_commit(name, None) == COMMIT
