"""The repository of the released weights, laid out in each way that it may be."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

import vidground.checkpoints.hub_files
from tests.helpers.hub_stub import COMMIT, serve
from tests.helpers.tokenizer_files import released_checkpoint
from tests.helpers.video_files import make_video
from vidground import CheckpointError, Grounder
from vidground.cli.main import cli
from vidground.review.replay import replay

REPOSITORY = "wenzhengzeng/D2VLM-Models"
BASE = "PolyU-ChenLab/ETChat-Phi3-Mini-Stage-2"
FAST = ["--device", "cpu", "--max-new-tokens", "4"]

Files = dict[str, bytes]


@dataclass(frozen=True)
class Layout:
    """Folders of the repository: d2vlm's, d2vlm-mcqa's, and others with what they hold."""

    d2vlm: str
    mcqa: str | None = None
    others: tuple[tuple[str, str], ...] = ()
    kind: str = "full"


LAYOUTS = {
    "root": Layout(""),
    "one folder": Layout("D2VLM"),
    "two, lower case": Layout("d2vlm", "d2vlm_mcqa_enhanced"),
    "two, upper case": Layout("D2VLM", "D2VLM_mcqa_enhanced"),
    "three": Layout("D2VLM", "D2VLM_mcqa_enhanced", (("D2VLM_sft", "full"),)),
    "three, other names": Layout("d2vlm_fpo", "d2vlm_mcqa_enhanced", (("d2vlm_sft", "full"),)),
    "two adapters": Layout("D2VLM", "D2VLM_mcqa_enhanced", kind="adapter"),
    "two adapters and their base": Layout(
        "D2VLM", "D2VLM_mcqa_enhanced", (("ETChat-Phi3-Mini-Stage-2", "base"),), "adapter"
    ),
    "nested": Layout("weights/D2VLM", "weights/D2VLM_mcqa_enhanced"),
    "root and multiple choice": Layout("", "d2vlm_mcqa_enhanced"),
}
BASE_BESIDE = "two adapters and their base"


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    """The files of a small model in the released format, whole and as an adapter on a base."""
    folder = released_checkpoint(tmp_path_factory.mktemp("released"))
    config = json.loads((folder / "config.json").read_text())
    # The stand-in tokenizer spells prompts letter by letter: give them room.
    config |= {"max_position_embeddings": 4096, "original_max_position_embeddings": 4096}
    (folder / "config.json").write_text(json.dumps(config))
    full = _files(folder)
    weights = load_file(folder / "model.safetensors")

    heads = ("evi_head.", "frm_head.", "lm_head.", "model.embed_tokens.")
    trained = {name: tensor for name, tensor in weights.items() if name.startswith(heads)}
    layer = "model.layers.3.self_attn.o_proj"
    rows, columns = weights[f"{layer}.weight"].shape
    factors = {"A": torch.ones(2, columns), "B": torch.zeros(rows, 2)}
    names = {f"base_model.model.{layer}.lora_{name}.weight": t for name, t in factors.items()}
    adapter = folder.parent / "adapter"
    shutil.copytree(folder, adapter, ignore=shutil.ignore_patterns("model.safetensors"))
    save_file(trained, adapter / "pytorch_model.safetensors")
    save_file(names, adapter / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    place = {"model_name_or_path": "/home/someone/models/ETChat-Phi3-Mini-Stage-2"}
    beside = _files(adapter) | {"config.json": json.dumps(config | place).encode()}
    place = {"model_name_or_path": BASE}
    on_hub = _files(adapter) | {"config.json": json.dumps(config | place).encode()}

    earlier = {name: t for name, t in weights.items() if not name.startswith("evi_head.")}
    save_file(earlier, folder / "model.safetensors")
    before = config | {"use_evidence": False, "use_matching": True}
    (folder / "config.json").write_text(json.dumps(before))
    return {"full": full, "adapter": on_hub, "adapter beside": beside, "base": _files(folder)}


def _files(folder: Path) -> Files:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Layout:
    return LAYOUTS[request.param]


@pytest.fixture
def repositories(layout: Layout, kinds: dict[str, Files]) -> dict[str, Files]:
    """The repository, and what else its models need; every file has content of its own."""
    kind = "adapter beside" if layout is LAYOUTS[BASE_BESIDE] else layout.kind
    folders = [(layout.d2vlm, kind), *layout.others, ("vision_tower", "part")]
    folders += [(layout.mcqa, kind)] if layout.mcqa else []
    # A part of the model, as its own library saves it, is no D2VLM and is never fetched.
    part = {"config.json": b'{"model_type": "clip"}', "model.safetensors": b"part"}
    found = {}
    for folder, name in folders:
        prefix = f"{folder}/" if folder else ""
        for path, data in (part if name == "part" else kinds[name]).items():
            marked = path.endswith("config.json")  # equal content would be fetched once
            found[prefix + path] = data + b" " * (len(folder) + 1) if marked else data
    return {REPOSITORY: found, BASE: kinds["base"]}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder but for a film, and an empty hub cache."""
    monkeypatch.chdir(tmp_path)
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    make_video(tmp_path / "film.mp4", frames=20, fps=10)
    return tmp_path


@pytest.fixture
def online(repositories: dict[str, Files], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The hub has these repositories; gives the names of the files that it sent."""
    real = vidground.checkpoints.hub_files.snapshot_download
    with serve(repositories) as (address, served):
        there = partial(real, endpoint=address)
        monkeypatch.setattr(vidground.checkpoints.hub_files, "snapshot_download", there)
        yield served


@pytest.fixture
def offline(repositories: dict[str, Files], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache has all of these repositories, and the network must not be used."""
    for repository, files in repositories.items():
        store = place / "cache" / f"models--{repository.replace('/', '--')}"
        for name, data in files.items():
            path = store / "snapshots" / COMMIT / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        (store / "refs").mkdir()
        (store / "refs" / "main").write_text(COMMIT)
    real = vidground.checkpoints.hub_files.snapshot_download

    def cache_only(*args: str, local_files_only: bool, **options: object) -> str:
        assert local_files_only, "the network is used"
        return str(real(*args, local_files_only=True, **options))

    monkeypatch.setattr(vidground.checkpoints.hub_files, "snapshot_download", cache_only)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def name_of(folder: str | None) -> str:
    return f"{REPOSITORY}/{folder}" if folder else REPOSITORY


def weights_in(served: list[str]) -> set[str]:
    return {name for name in served if name.endswith(".safetensors")}


def weights_needed(layout: Layout, folder: str) -> set[str]:
    """The weights of one model, and of its base."""
    prefix = f"{folder}/" if folder else ""
    if layout.kind == "full":
        return {f"{prefix}model.safetensors"}
    base = f"{layout.others[0][0]}/" if layout.others else ""
    own = {f"{prefix}{name}_model.safetensors" for name in ("adapter", "pytorch")}
    return {f"{base}model.safetensors", *own}


def test_download_fetches_the_paper_s_model_only(layout: Layout, online: list[str]) -> None:
    done = run("download")
    assert done.exit_code == 0, done.output
    assert done.stdout.strip().endswith(f"/snapshots/{COMMIT}/{layout.d2vlm}".rstrip("/"))
    assert weights_in(online) == weights_needed(layout, layout.d2vlm)
    online.clear()
    # From now on the cache is enough.
    assert Grounder(local_files_only=True).engine.model.name_or_path == name_of(layout.d2vlm)
    assert online == []


def test_download_of_the_other_model(layout: Layout, online: list[str]) -> None:
    done = run("download", "d2vlm-mcqa")
    if layout.mcqa is None:
        assert done.exit_code == 1
        assert "is d2vlm-mcqa; choose a model by its sub-folder" in done.stderr
        assert weights_in(online) == set()
        return
    assert done.exit_code == 0, done.output
    assert done.stdout.strip().endswith(f"/{layout.mcqa}")
    assert weights_in(online) == weights_needed(layout, layout.mcqa)
    # What the cache has now is not the model of the paper, which is fetched, too.
    assert Grounder().engine.model.name_or_path == name_of(layout.d2vlm)


@pytest.mark.usefixtures("online")
def test_caption_finds_the_model_on_the_hub(layout: Layout) -> None:
    done = run("caption", "film.mp4", "--out", "json", *FAST)
    assert done.exit_code == 0, done.output
    made = json.loads(Path("film.json").read_text())["provenance"]
    assert (made["model"], made["revision"]) == (name_of(layout.d2vlm), COMMIT)
    named = name_of(layout.d2vlm) if layout.d2vlm else "d2vlm"
    assert f"fetching {named} from the hub\n" in done.stderr
    said = f"Loading d2vlm ({name_of(layout.d2vlm)}, 0.708 M parameters, float32, 2.8 MB) on cpu …"
    assert done.stderr.splitlines().count(said) == 1  # though it is logged early and late


@pytest.mark.usefixtures("offline")
def test_every_command_finds_the_models_in_the_cache(layout: Layout) -> None:
    assert Grounder().engine.model.name_or_path == name_of(layout.d2vlm)
    if layout.mcqa is not None:
        assert Grounder("d2vlm-mcqa").engine.model.name_or_path == name_of(layout.mcqa)
    done = run("caption", "film.mp4", "--out", "json", "--offline", *FAST)
    assert done.exit_code == 0, done.output
    made = json.loads(Path("film.json").read_text())["provenance"]
    assert (made["model"], made["revision"]) == (name_of(layout.d2vlm), COMMIT)
    again = replay("film.json", local_files_only=True)
    assert again.same
    assert again.result.provenance.model == name_of(layout.d2vlm)
    listed = json.loads(run("models", "--json").stdout)["models"]
    copies = {model["name"]: [copy["name"] for copy in model["copies"]] for model in listed}
    assert copies["d2vlm"] == [name_of(layout.d2vlm)]
    assert copies["d2vlm-mcqa"] == ([name_of(layout.mcqa)] if layout.mcqa else [])


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("layout", ["three"], indirect=True)
def test_a_repository_and_a_sub_folder_are_used_as_given(layout: Layout) -> None:
    assert Grounder(REPOSITORY).engine.model.name_or_path == name_of(layout.d2vlm)
    for model, options in (
        (REPOSITORY, {"subfolder": "D2VLM_sft"}),
        ("d2vlm", {"subfolder": "D2VLM_sft"}),
        (f"{REPOSITORY}/D2VLM_sft", {}),
    ):
        assert Grounder(model, **options).engine.model.name_or_path == name_of("D2VLM_sft")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("layout", ["two, upper case"], indirect=True)
def test_a_missing_model_says_what_to_run(place: Path) -> None:
    snapshot = place / "cache" / f"models--{REPOSITORY.replace('/', '--')}" / "snapshots" / COMMIT
    (snapshot / "D2VLM_mcqa_enhanced" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"fetch it once.*vidground download d2vlm-mcqa "):
        Grounder("d2vlm-mcqa", local_files_only=True)
    shutil.rmtree(snapshot / "D2VLM")
    with pytest.raises(CheckpointError, match=r"fetch it once.*vidground download d2vlm "):
        Grounder(local_files_only=True)


@pytest.mark.parametrize("layout", ["two, upper case"], indirect=True)
def test_an_unclear_repository_lists_what_it_has(
    repositories: dict[str, Files], online: list[str]
) -> None:
    files = repositories[REPOSITORY]
    for name in list(files):
        if name.startswith("D2VLM"):
            renamed = name.replace("D2VLM", "d2vlm_v1").replace("_mcqa_enhanced", "x")
            files[renamed] = files.pop(name)
    done = run("download")
    assert done.exit_code == 1
    assert "is d2vlm; choose a model by its sub-folder" in done.stderr
    assert "(subfolder=… or --subfolder): d2vlm_v1, d2vlm_v1x" in done.stderr
    assert run("download", "--subfolder", "d2vlm_v1x").exit_code == 0
    assert weights_in(online) == {"d2vlm_v1x/model.safetensors"}
