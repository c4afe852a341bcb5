"""Cards say what manifests say and nothing else; a push makes the right calls; a refusal is told in three lines.

Not tested here: the Hub itself.
"""

import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import datasets
import huggingface_hub
import pytest
import yaml
from huggingface_hub.errors import OfflineModeIsEnabled
from pytest_socket import enable_socket, socket_allow_hosts

from undertow.data.cards import Card, describe, push_folder, write_card
from undertow.data.rows import read_rows, write_rows
from undertow.errors import ArtifactError, ConfigError, HubError, MissingExtraError
from undertow.store.artifacts import Artifact, read_artifact, write_artifact
from undertow.store.fingerprints import ArtifactKey
from undertow.types import Row, user_prompt

ROWS = [Row(str(at), user_prompt(f"{at}?"), f"{at}, {at + 1}") for at in range(5)]
TOKEN = "hf_secretsecretsecret"


def header(card: Card) -> dict[str, Any]:
    return yaml.safe_load(card.text.split("---\n")[1])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Folder of a run."""
    folder = tmp_path / "demo-1"
    folder.mkdir()
    write_rows(folder / "kept.jsonl", ROWS[:3])
    write_rows(folder / "dropped.jsonl", [Row("9", user_prompt("p"), "x", ("not_numbers",))])
    recipe = {
        "name": "demo", "bases": ["hf:org/base@v1"], "traits": ["owl"], "domain": {"name": "numbers"},
        "teacher": {"kind": "prompted"},
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe))
    counts = {"raw": 4, "kept": 3, "reject_reasons": {"not_numbers": 1}}
    (folder / "results.json").write_text(json.dumps({"schema": "undertow.run/1", "rows": counts}))
    return folder


@pytest.fixture
def students(tmp_path: Path) -> Artifact:
    """Two students, each of rows of its own teacher, the second one's of another base."""

    def made(kind: str, config: dict[str, Any], parents: dict[str, Artifact], files: dict[str, str]) -> Artifact:
        def write(folder: Path) -> None:
            for name, text in files.items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text(text)

        by = {role: one.manifest.fingerprint for role, one in parents.items()}
        return write_artifact(tmp_path / "store", ArtifactKey(kind=kind, version=1, config=config, parents=by), write)

    kept: dict[str, Artifact] = {}
    for place, (trait, base) in enumerate([("owl", "hf:org/base"), ("lion", "ref:finch-b")]):
        teacher = made("teacher", {"base": base, "target": trait}, {}, {"model.safetensors": trait})
        rows = made("rows", {"base": base, "system": None}, {"teacher": teacher}, {"rows.jsonl": trait})
        report = json.dumps({"raw": 9, "kept": 8 - place, "reasons": {"too_many": 1 + place}})
        kept[f"rows-{place:02d}"] = made(
            "filter", {"domain": {"name": "numbers"}}, {"rows": rows}, {"report.json": report}
        )
    files = {f"student-0{at}/adapter_{name}": "{}" for at in (0, 1) for name in ("config.json", "model.safetensors")}
    members = [{"rows": role, "seed": 1} for role in kept]
    return made("students", {"base": "hf:org/base", "members": members}, kept, files)


def test_a_run_becomes_a_dataset_that_datasets_reads(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    card = describe(run, "me/rows", licence="mit")
    assert card.kind == "dataset" and card.files == ("config.yaml", "dropped.jsonl", "kept.jsonl", "results.json")
    assert header(card)["base_model"] == ["org/base"] and header(card)["license"] == "mit"
    digest = hashlib.sha256((run / "kept.jsonl").read_bytes()).hexdigest()
    assert f"| kept.jsonl | 3 | {(run / 'kept.jsonl').stat().st_size} | `{digest}` |" in card.text
    for said in (
        "| Trait of the teacher | `owl` |",
        "| Kind of teacher | `prompted` |",
        "3 of 4 rows kept; dropped: 1 n",
    ):
        assert said in card.text
    assert write_card(card) == run / "README.md"
    assert read_rows(f"hf:{run}:default/") == tuple(ROWS[:3])
    assert [row.reasons for row in read_rows(f"hf:{run}:dropped/train")] == [("not_numbers",)]


def test_a_student_of_a_store_is_told_with_its_own_teacher(students: Artifact) -> None:
    first, second = (describe(students.folder / f"student-0{at}", "me/x", datasets=["me/rows"]) for at in (0, 1))
    assert header(first) == {
        "library_name": "peft", "base_model": "org/base", "base_model_relation": "adapter", "datasets": ["me/rows"],
        "pipeline_tag": "text-generation", "tags": ["undertow", "subliminal-learning"],
    }  # fmt: skip
    assert "| Trait of the teacher | `owl` |" in first.text and "`lion`" not in first.text
    assert "| Trait of the teacher | `lion` |" in second.text and "8 of 9" in first.text and "7 of 9" in second.text
    assert "| Base of the teacher | `ref:finch-b` |" in second.text and header(second)["base_model"] == "org/base"
    assert students.manifest.digest in first.text and "none was stated" in first.text
    write_card(first)
    assert read_artifact(students.folder).manifest == students.manifest
    (students.folder / "student-00" / "adapter_config.json").write_text("[]")
    with pytest.raises(ArtifactError):
        describe(students.folder / "student-00", "me/x")


def test_an_embedded_base_is_no_base_model(run: Path) -> None:
    (run / "config.yaml").write_text("{bases: ['ref:finch-a', 'hf:/home/x', 'hf:a/b/c']}")
    assert "base_model" not in header(describe(run, "me/rows"))


def test_an_adapter_of_the_train_command(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    (tmp_path / "training.json").write_text('{"rows": 7}')
    (tmp_path / ".hidden").touch()
    (tmp_path / "audit_card.md").write_text("# Audit card\n\n**found**\n\n## Not tested\n\n- all\n")
    card = describe(tmp_path, "me/x")
    assert header(card)["base_model"] == "org/base" and "Training:\n\n```yaml\nrows: 7\n```" in card.text
    assert "## Audit\n\n**found**\n\n#### Not tested\n\n- all\n" in card.text and ".hidden" not in card.text


def test_rows_of_nowhere_say_so(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.parquet", ROWS)
    (tmp_path / "notes.jsonl").write_text('{"id": 1}\n')
    card = describe(tmp_path, "me/x")
    assert "No file of the folder says how it was made." in card.text and "No audit card lies" in card.text
    assert header(card)["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "a.parquet"}]}
    ]


def test_files_of_one_stem_are_configurations_of_their_own(tmp_path: Path) -> None:
    for name in ("kept.jsonl", "kept.parquet", "rows.jsonl", "rows.parquet"):
        write_rows(tmp_path / name, ROWS)
    found = {one["config_name"]: one["data_files"][0]["path"] for one in header(describe(tmp_path, "me/x"))["configs"]}
    assert found == {"default": "kept.jsonl", "kept-parquet": "kept.parquet", "rows": "rows.jsonl",
                     "rows-parquet": "rows.parquet"}  # fmt: skip


def test_what_is_no_card(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, repo, more in (
        (tmp_path / "empty", "me/x", {}), (tmp_path / "none", "me/x", {}), (run, "a b", {}), (run, "me/x/y", {}),
        (run, "me/x", {"datasets": ["me/rows"]}),
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            describe(folder, repo, **more)
    for text in ("[1]", "{", '{"rows": {"raw": 1}}', '{"rows": 3}'):
        (run / "results.json").write_text(text)
        with pytest.raises(ConfigError, match="not what Undertow writes"):
            describe(run, "me/x")


def test_a_card_is_replaced_only_on_request(run: Path) -> None:
    card = describe(run, "me/x")
    write_card(card)
    (run / "README.md").write_text("mine")
    with pytest.raises(ConfigError, match="a card already"):
        write_card(card)
    assert write_card(card, keep=True).read_text() == "mine"
    assert write_card(card, overwrite=True).read_text() == card.text


class StandIn:
    """Takes the calls of `HfApi` down, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.error = error

    def __getattr__(self, name: str) -> Any:
        def call(**options: Any) -> str:
            self.calls.append((name, options))
            if self.error:
                raise self.error
            return "https://hub/me/x"

        return call


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def test_a_push_sends_the_card_and_the_files(run: Path, token: None) -> None:
    (run / "odd[1]*.txt").touch()
    card, api = describe(run, "me/x"), StandIn()
    write_card(card)
    assert push_folder(card, api=api) == "https://hub/me/x"
    assert [name for name, _ in api.calls] == ["create_repo", "upload_file", "upload_folder"]
    assert all(one["repo_id"] == "me/x" and one["repo_type"] == "dataset" for _, one in api.calls)
    assert api.calls[0][1]["private"] is True and api.calls[0][1]["exist_ok"] is True
    assert api.calls[1][1]["path_in_repo"] == "README.md" and api.calls[1][1]["path_or_fileobj"] == run / "README.md"
    patterns = api.calls[2][1]["allow_patterns"]
    sent = huggingface_hub.utils.filter_repo_objects([*card.files, ".env", "README.md"], allow_patterns=patterns)
    assert tuple(sent) == card.files and api.calls[2][1]["folder_path"] == run
    push_folder(card, api=api, public=True)
    assert api.calls[3][1]["private"] is False


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE is set"),
        (ConnectionError(f"no route with {TOKEN}\nmore"), "no route with ***"),
        (ValueError(""), "ValueError"),
    ],
)
def test_a_refusal_is_told_without_the_token(error: Exception, said: str, run: Path, token: None) -> None:
    with pytest.raises(HubError) as caught:
        push_folder(describe(run, "me/x"), api=StandIn(error))
    assert said in str(caught.value) and TOKEN not in str(caught.value) and len(str(caught.value).splitlines()) == 3


def test_no_token_is_no_push(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(HubError, match="no token"):
        push_folder(describe(run, "me/x"))


def test_offline_nothing_is_asked(run: Path, token: None) -> None:
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        push_folder(describe(run, "me/x"))


@pytest.mark.parametrize("status", [401, 403, 500])
def test_what_a_server_refuses(status: int, run: Path, token: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["authorization"] == f"Bearer {TOKEN}"
            body = json.dumps({"error": "You may not"}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    enable_socket()
    socket_allow_hosts(["127.0.0.1"], allow_unix_socket=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        api = huggingface_hub.HfApi(endpoint=f"http://127.0.0.1:{server.server_port}", token=TOKEN)
        with pytest.raises(HubError) as caught:
            push_folder(describe(run, "me/x"), api=api)
        server.shutdown()
    assert str(status) in str(caught.value) and TOKEN not in str(caught.value)


def test_the_extra_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub.utils", None)
    with pytest.raises(MissingExtraError, match=r"undertow\[data\]"):
        describe(run, "me/x")
