"""Models of the hub: pinned to a commit of the cache; one line where they can't be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.sentence import Sentence
from neurosearch.nn import hub
from neurosearch.nn.pretrained import model_folder, origin, weights_digest

COMMITS = {"main": "a" * 40, "v1": "b" * 40}


@pytest.fixture
def cached(tiny_model: str, tmp_path: Path, monkeypatch) -> str:
    """A model in the hub's cache, in two revisions, without a network."""
    place = tmp_path / "models--someone--bert"
    (place / "refs").mkdir(parents=True)
    for name, commit in COMMITS.items():
        (place / "refs" / name).write_text(commit)
        snapshot = place / "snapshots" / commit
        snapshot.mkdir(parents=True)
        for file in Path(tiny_model).iterdir():
            (snapshot / file.name).write_bytes(file.read_bytes())
    for module in ("huggingface_hub.constants", "huggingface_hub.file_download"):
        monkeypatch.setattr(f"{module}.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model_folder.cache_clear()
    newest = hub._newest
    newest.cache_clear()
    yield "someone/bert"
    model_folder.cache_clear()
    newest.cache_clear()


def test_a_model_is_its_commit(cached: str) -> None:
    assert hub.revision_of(cached) == COMMITS["main"]
    assert weights_digest(cached) == f"hub:{cached}@{COMMITS['main']}"
    assert weights_digest(f"{cached}@v1") == f"hub:{cached}@{COMMITS['v1']}"
    assert Sentence(model=cached).fingerprint != Sentence(model=f"{cached}@v1").fingerprint
    assert origin(f"{cached}@v1") == f"hub {cached} at {COMMITS['v1']}"


def test_it_is_read_from_the_cache(cached: str, tiny_model: str, runtime: Runtime) -> None:
    mine = Sentence(model=cached).live(runtime).encode(["red lamp"])
    wanted = Sentence(model=tiny_model).live(runtime).encode(["red lamp"])
    assert mine == pytest.approx(wanted)


def test_offline_is_one_line(cached: str, runtime: Runtime) -> None:
    for model in ("someone/else", f"{cached}@v9"):
        with pytest.raises(InputError, match="the hub did not") as caught:
            Sentence(model=model).live(runtime)
        assert "\n" not in str(caught.value) and model in str(caught.value)
    assert origin("someone/else") == "hub someone/else at an unknown revision"


def test_a_download_is_remembered_by_its_name(cached: str, tmp_path: Path, monkeypatch) -> None:
    asked = []

    def snapshot(name: str, revision: str, **_: object) -> str:
        asked.append((name, revision))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    hub.download(cached, "encoder.model")
    hub.download(f"{cached}@v1", "encoder.model")
    assert asked == [(cached, COMMITS["main"]), (cached, COMMITS["v1"])]
    # What the cache lacks is asked for by name: by its commit, no name would lead there offline.
    monkeypatch.setattr(hub, "_newest", lambda model: "c" * 40)
    hub.download("someone/new", "encoder.model")
    hub.download("someone/new@v2", "encoder.model")
    assert asked[2:] == [("someone/new", "main"), ("someone/new", "v2")]


def test_what_no_model_can_be_called_is_one_line() -> None:
    with pytest.raises(InputError, match=r"exports/adhoc: no such folder"):
        Sentence(model="outputs/exports/adhoc")
    with pytest.raises(InputError, match="no name that a model of the hub can have"):
        weights_digest("a name/with blanks")
