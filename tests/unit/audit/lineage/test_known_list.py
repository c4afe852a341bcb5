"""What `--known` takes: folders, lists and references, and what is refused or left out by name."""

import json
from pathlib import Path

import pytest

from undertow.audit.lineage.known_list import known_bases
from undertow.errors import ConfigError


@pytest.fixture
def library(nets, write, tmp_path):
    """A folder with a model, two adapters of one base, a GGUF file, and what is no model."""
    write("llama", nets.draw(0))
    for name in ("student-0", "student-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "ref:finch-a"}))
    (tmp_path / "packed.gguf").write_bytes(b"GGUF")
    (tmp_path / "rows").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "orphan").mkdir()
    (tmp_path / "orphan" / "adapter_config.json").write_text("{}")
    return tmp_path


def test_a_folder_gives_its_models_its_gguf_files_and_the_bases_of_its_adapters(library):
    bases, left = known_bases([str(library)])
    assert {one.reference for one in bases} == {f"hf:{library}/llama", f"hf:{library}/packed.gguf", "ref:finch-a"}
    assert all(one.found for one in bases)
    assert {one.name: one.why.split(",")[0] for one in left} == {
        f"{library}/orphan": "the adapter does not name its base",
        f"{library}/rows": "no config.json with safetensors",
    }


def test_a_folder_that_is_a_model_is_one(library):
    assert [one.reference for one in known_bases([f"{library}/llama"])[0]] == [f"hf:{library}/llama"]


def test_the_cache_of_the_hub_gives_the_snapshots_of_its_repositories(nets, write, tmp_path):
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / "0a1b"
    snapshot.parent.mkdir(parents=True)
    Path(write("llama", nets.draw(0)).removeprefix("hf:")).rename(snapshot)
    assert [one.reference for one in known_bases([str(tmp_path / "hub")])[0]] == [f"hf:{snapshot}"]


def test_a_list_has_references_comments_and_nothing_else(tmp_path):
    path = tmp_path / "bases.txt"
    path.write_text("# ours\n\nref:finch-a  # the first\nhf:models/a#b\n")
    bases, left = known_bases([str(path), "ref:finch-b"])
    assert [(one.reference, one.place) for one in bases] == [
        ("ref:finch-a", f"{path}:3"),
        ("hf:models/a#b", f"{path}:4"),
        ("ref:finch-b", "--known"),
    ]
    assert left == ()


def test_one_that_is_named_twice_is_told_with_both_places(tmp_path):
    path = tmp_path / "bases.txt"
    path.write_text("ref:finch-a\nref:finch-b\nref:finch-a\n")
    bases, left = known_bases([str(path)])
    assert len(bases) == 2
    assert left[0].why == f"{path}:3 names it again after {path}:1" and left[0].do == "Name it once."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "There is no known base"),
        ("# nothing\n", "There is no known base"),
        ("finch-a\n", "neither a folder, nor a file, nor a reference"),
        ("ref:finch-a\napi:gpt\n", "A remote model has no weights"),
        ("\0", "neither a folder, nor a file"),
        (b"\xff\xfe", "cannot be read as text"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_with_its_line(tmp_path, text, said):
    path = tmp_path / "bases.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        known_bases([str(path)])
    assert said in caught.value.what and str(path) in caught.value.value and caught.value.fix


def test_a_folder_without_models_is_refused_and_says_what_it_holds(tmp_path):
    (tmp_path / "rows").mkdir()
    with pytest.raises(ConfigError) as caught:
        known_bases([str(tmp_path)])
    assert f"{tmp_path}/rows: no config.json" in caught.value.value


@pytest.mark.parametrize("name", ["nowhere", "api:gpt", "", "x" * 5000, "ref:finch-a?color=red"])
def test_a_name_that_is_nothing_is_refused(name):
    with pytest.raises(ConfigError):
        known_bases([name])
