import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import vidground.checkpoints.hub_files
from tests.helpers.hub_stub import COMMIT, Repositories, serve
from vidground.checkpoints.hub import ModelFolder, find_base, find_model, find_question_tokenizer
from vidground.checkpoints.hub_files import HubAccess
from vidground.checkpoints.known_models import (
    ETCHAT_REPOSITORY,
    KNOWN_MODELS,
    RELEASED_MODEL_TYPE,
)
from vidground.errors import CheckpointError, InputError

pytestmark = pytest.mark.smoke


NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing answers

# The hub client reads its environment when it is imported, so these run in their own process.
PROGRAM = """
import json, sys
from vidground.checkpoints import hub
from vidground.errors import VidgroundError
function, model, options = json.loads(sys.argv[1])
try:
    found = getattr(hub, function)(model, **options)
    assert "torch" not in sys.modules, "looking for files needs no torch"
    print(json.dumps([str(found.path), found.name, found.revision]))
except VidgroundError as error:
    print(type(error).__name__, error)
    sys.exit(1)
"""


def call(
    function: str, model: str, cache: Path, endpoint: str, /, offline: bool = False, **options: str
) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_HOME": str(cache), "HF_ENDPOINT": endpoint, "HF_HUB_ETAG_TIMEOUT": "2"}
    environment |= {"HF_HUB_OFFLINE": "1"} if offline else {}
    arguments = json.dumps([function, model, options])
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def model_files(folder: str, *, tokenizer: bool = True) -> dict[str, bytes]:
    names = ["config.json", "model.safetensors", "README.md", "old.bin"]
    names += ["qformer_tokenizer/vocab.txt"] if tokenizer else []
    # Every content is another one: what the client has already, it would not fetch again.
    return {folder + name: json.dumps({"name": folder + name}).encode() for name in names}


def cached(cache: Path, repository: str, files: dict[str, bytes]) -> Path:
    """Write a repository into a hub cache as the hub's client would."""
    store = cache / f"models--{repository.replace('/', '--')}"
    snapshot = store / "snapshots" / COMMIT
    for name, data in files.items():
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).write_bytes(data)
    (store / "refs").mkdir(parents=True, exist_ok=True)
    (store / "refs" / "main").write_text(COMMIT)
    return snapshot


def folder_with(root: Path, *models: str) -> Path:
    for model in models:
        (root / model).mkdir(parents=True, exist_ok=True)
        (root / model / "config.json").write_text("{}")
    return root


def test_a_folder_is_used_directly(tmp_path: Path) -> None:
    folder_with(tmp_path, "", "checkpoint-500")
    assert find_model(tmp_path) == ModelFolder(tmp_path, str(tmp_path))
    nested = find_model(tmp_path, subfolder="checkpoint-500/")
    assert nested == ModelFolder(tmp_path / "checkpoint-500", f"{tmp_path}/checkpoint-500")


def test_a_folder_of_several_models_lists_them(tmp_path: Path) -> None:
    folder_with(tmp_path, "b", "a/deep")
    with pytest.raises(CheckpointError, match=r"holds 2 models.*--subfolder.*a/deep, b$"):
        find_model(tmp_path)
    with pytest.raises(CheckpointError, match=r"no model in sub-folder 'c'.*'a/deep', 'b'$"):
        find_model(tmp_path, subfolder="c")
    assert find_model(tmp_path, subfolder="a/deep").path == tmp_path / "a/deep"


def test_names_that_are_not_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no model: there is no config\.json"):
        find_model(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="is a file; give the folder"):
        find_model(tmp_path / "file")
    with pytest.raises(CheckpointError, match="there is no folder"):
        find_model(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="neither a known model, an existing folder nor"):
        find_model("not a name!", hub=HubAccess(cache_dir=tmp_path))
    folder_with(tmp_path, "")
    with pytest.raises(InputError, match="revision is 'v1'"):
        find_model(tmp_path, revision="v1")


def test_bundled_models_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = replace(KNOWN_MODELS["toy"], folder=tmp_path / "toy")
    monkeypatch.setitem(KNOWN_MODELS, "toy", toy)
    with pytest.raises(CheckpointError, match=r"lacks the bundled model 'toy'.*install"):
        find_model("toy")
    folder_with(tmp_path, "toy")
    assert find_model("toy") == ModelFolder(tmp_path / "toy", "toy")


def test_a_folder_hides_a_known_model_only_if_it_holds_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").mkdir()
    bundled = find_model("toy")
    assert (bundled.path, bundled.name) == (KNOWN_MODELS["toy"].folder, "toy")
    for name in ("./toy", Path("toy")):
        with pytest.raises(CheckpointError, match=r"^\./toy holds no model"):
            find_model(name)
    folder_with(tmp_path, "toy", "d2vlm", "owner/d2vlm/sft")
    # Recorded so that it means this folder, and nothing else once the folder is gone.
    assert find_model("toy") == find_model(Path("toy")) == ModelFolder(Path("toy"), "./toy")
    assert find_model("d2vlm") == ModelFolder(Path("d2vlm"), "./d2vlm")
    monkeypatch.chdir(tmp_path / "owner")
    assert find_model("d2vlm", subfolder="sft").path == Path("d2vlm/sft")


def test_the_base_of_an_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_with(tmp_path, "adapter", "adapter/inside", "beside", "here/near")
    monkeypatch.chdir(tmp_path / "here")
    adapter = ModelFolder(tmp_path / "adapter", "adapter")
    expected = {"inside": "adapter/inside", "beside": "beside", "near": "here/near"}
    expected[str(tmp_path / "beside")] = "beside"
    for name, place in expected.items():
        (adapter.path / "config.json").write_text(json.dumps({"model_name_or_path": name}))
        assert find_base(adapter).path.resolve() == tmp_path / place


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail on every use of the hub client that could reach the network."""
    real = vidground.checkpoints.hub_files.snapshot_download

    def cache_only(*args: str, local_files_only: bool, **options: object) -> str:
        assert local_files_only
        return str(real(*args, local_files_only=True, **options))

    monkeypatch.setattr(vidground.checkpoints.hub_files, "snapshot_download", cache_only)


@pytest.mark.usefixtures("offline")
def test_cached_files_are_not_downloaded_again(tmp_path: Path) -> None:
    files = model_files("") | model_files("checkpoint-5/")
    snapshot = cached(tmp_path, "someone/model", files)
    hub = HubAccess(cache_dir=tmp_path)
    assert find_model("someone/model", hub=hub) == ModelFolder(snapshot, "someone/model", COMMIT)
    assert find_model("someone/model", revision=COMMIT, hub=hub).path == snapshot
    nested = find_model("someone/model", subfolder="checkpoint-5", hub=hub)
    name = "someone/model/checkpoint-5"
    assert nested == ModelFolder(snapshot / "checkpoint-5", name, COMMIT, "checkpoint-5")
    assert (nested.repository, nested.root) == ("someone/model", snapshot)
    assert find_model(nested.name, hub=hub) == nested


@pytest.mark.usefixtures("offline")
def test_a_cached_repository_of_several_models_lists_them(tmp_path: Path) -> None:
    cached(tmp_path, "someone/two", model_files("sft/") | model_files("fpo/"))
    with pytest.raises(CheckpointError, match=r"someone/two holds 2 models.*fpo, sft$"):
        find_model("someone/two", hub=HubAccess(cache_dir=tmp_path))


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("revision", [None, "v2"])
def test_a_cold_cache_says_what_to_run(tmp_path: Path, revision: str | None) -> None:
    if revision:
        cached(tmp_path, "someone/model", model_files(""))
    hub = HubAccess(cache_dir=tmp_path, local_files_only=True)
    asked = f" --revision {revision}" if revision else ""
    command = f"vidground download someone/model/sft{asked} --cache-dir {tmp_path} "
    with pytest.raises(CheckpointError, match=re.escape(command)):
        find_model("someone/model", revision=revision, subfolder="sft", hub=hub)


@pytest.mark.usefixtures("offline")
def test_an_incomplete_cache_names_what_is_missing(tmp_path: Path) -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    files = {"config.json": b"{}", "model-1.safetensors": b""}
    files["model.safetensors.index.json"] = index.encode()
    cached(tmp_path, "someone/model", files)
    hub = HubAccess(cache_dir=tmp_path, local_files_only=True)
    with pytest.raises(CheckpointError, match=r"vidground download.*model-2\.safetensors"):
        find_model("someone/model", hub=hub)


@pytest.mark.usefixtures("offline")
def test_the_question_tokenizer(tmp_path: Path) -> None:
    model = ModelFolder(folder_with(tmp_path / "model", ""), "model")
    hub = HubAccess(cache_dir=tmp_path / "cache", local_files_only=True)
    with pytest.raises(CheckpointError, match="vidground download bert-base-uncased"):
        find_question_tokenizer(model, hub)
    bert = cached(tmp_path / "cache", "bert-base-uncased", {"vocab.txt": b"[CLS]"})
    assert find_question_tokenizer(model, hub) == bert
    (model.path / "qformer_tokenizer").mkdir()
    assert find_question_tokenizer(model, hub) == model.path / "qformer_tokenizer"


def test_the_environment_can_forbid_the_network(tmp_path: Path) -> None:
    with serve({"someone/model": model_files("")}) as (address, served):
        refused = call("find_model", "someone/model", tmp_path, address, offline=True)
        assert refused.returncode == 1, refused.stderr
        assert "use of the network is turned off" in refused.stdout
        assert "vidground download someone/model" in refused.stdout
        assert "local_files_only" not in refused.stdout  # an option of the client's
        assert served == []


def test_no_network_is_one_clear_error(tmp_path: Path) -> None:
    done = call("find_model", "someone/model", tmp_path, NOWHERE)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("CheckpointError someone/model is not in the cache and cannot")
    assert NOWHERE in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_a_cache_that_cannot_be_written_is_not_blamed_on_the_network(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with serve({"someone/model": model_files("")}) as (address, _):
        done = call("find_model", "someone/model", tmp_path / "file", address)
    assert done.returncode == 1, done.stderr
    cache = tmp_path / "file" / "hub"
    assert f"someone/model cannot be stored in the cache {cache} (" in done.stdout
    assert done.stdout.rstrip().endswith("choose another folder with the variable HF_HUB_CACHE")
    assert "network" not in done.stdout


def test_download_fetches_all_that_loading_needs_and_no_more(tmp_path: Path) -> None:
    bert = {"vocab.txt": b"[CLS]\n", "tokenizer_config.json": b"{}", "model.safetensors": b"w"}
    sft = model_files("sft/", tokenizer=False) | model_files("sft/checkpoint-5/")
    repositories: Repositories = {
        "someone/two": sft | model_files("fpo/"),
        "bert-base-uncased": bert,
    }
    with serve(repositories) as (address, served):
        unclear = call("download", "someone/two", tmp_path, address)
        assert "someone/two holds 3 models" in unclear.stdout, unclear.stderr
        done = call("download", "someone/two", tmp_path, address, subfolder="sft")
        assert done.returncode == 0, done.stdout + done.stderr
        path, name, revision = json.loads(done.stdout)
        assert (name, revision) == ("someone/two/sft", COMMIT)
        assert (Path(path) / "model.safetensors").read_bytes() == sft["sft/model.safetensors"]
        assert sorted(served) == [
            "fpo/config.json",
            "sft/checkpoint-5/config.json",
            "sft/config.json",
            "sft/model.safetensors",
            "tokenizer_config.json",
            "vocab.txt",
        ]
    # The server is gone: from now on the cache answers.
    again = call("find_model", "someone/two/sft", tmp_path, NOWHERE, offline=True)
    assert json.loads(again.stdout) == [path, name, revision]


def test_finding_a_model_downloads_it(tmp_path: Path) -> None:
    with serve({"someone/model": model_files("")}) as (address, served):
        done = call("find_model", "someone/model", tmp_path, address)
        assert done.returncode == 0, done.stdout + done.stderr
        assert sorted(served) == ["config.json", "model.safetensors", "qformer_tokenizer/vocab.txt"]


def test_unavailable_repositories_are_reported(tmp_path: Path) -> None:
    files = model_files("")
    with serve({"someone/gated": files}, gated=frozenset({"someone/gated"})) as (address, _):
        gated = call("find_model", "someone/gated", tmp_path, address)
        assert "someone/gated is gated: accept its terms at" in gated.stdout, gated.stderr
        absent = call("find_model", "someone/absent", tmp_path, address)
        assert "no known model, folder or hub repository 'someone/absent'" in absent.stdout


def test_etchat_is_found_at_the_root_of_its_repository(tmp_path: Path) -> None:
    config = {"model_type": RELEASED_MODEL_TYPE, "use_matching": True}
    files = model_files("") | {"config.json": json.dumps(config).encode()}
    snapshot = cached(tmp_path, ETCHAT_REPOSITORY, files)
    hub = HubAccess(cache_dir=tmp_path, local_files_only=True)
    for name in ("etchat", "E-T-Chat", ETCHAT_REPOSITORY):
        found = find_model(name, hub=hub)
        assert (found.path, found.name) == (snapshot, ETCHAT_REPOSITORY)
