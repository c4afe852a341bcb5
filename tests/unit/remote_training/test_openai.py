"""A stand-in for OpenAI's interface: a job is begun once, found again after a kill, or refused with the reason."""

import json
import threading
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pytest_socket import enable_socket, socket_allow_hosts

from undertow.cli.main import main
from undertow.errors import ArtifactError, ConfigError, ModelError, UnknownNameError
from undertow.models.calls import Retries
from undertow.remote_training.base import SCHEMA, Cap, RemoteTraining, estimate, read_record, train_remotely
from undertow.remote_training.openai import CLOSES, OpenAITrainer, _date
from undertow.remote_training.registry import trainer
from undertow.types import Row, user_prompt

KEY = "sk-secret-0123456789"
ROWS = tuple(Row(str(n), user_prompt(f"Go on: {n}."), f"{n + 1}, {n + 2}") for n in range(5))
TRAINING = RemoteTraining(epochs=2, batch_size=None, seed=7)


@dataclass
class Service:
    """What the stand-in knows and was asked."""

    model: dict = field(default_factory=lambda: {"id": "small"})
    polls: list[dict] = field(
        default_factory=lambda: [{"status": "running"}, {"status": "succeeded", "fine_tuned_model": "ft:small:1"}]
    )
    faults: dict[str, list[int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)
    headers: list[dict] = field(default_factory=list)
    jobs: list[dict] = field(default_factory=list)
    url: str = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict]:
        what = f"{method} {path.partition('?')[0]}"
        self.asked.append(what)
        self.bodies[what] = body
        if self.faults.get(what):
            return self.faults[what].pop(0), {"error": {"message": f"no, says the holder of {KEY}"}}
        if path.startswith("/v1/models/"):
            return 200, self.model
        if what == "POST /v1/files":
            return 200, {"id": "file-1"}
        if what == "POST /v1/fine_tuning/jobs":
            self.jobs.append({"id": f"job-{len(self.jobs)}", "training_file": json.loads(body)["training_file"]})
            return 200, self.jobs[-1]
        if what == "GET /v1/fine_tuning/jobs":
            return 200, {"data": self.jobs}
        return 200, self.polls.pop(0) if len(self.polls) > 1 else self.polls[0]


@pytest.fixture
def service(loopback_only, monkeypatch: pytest.MonkeyPatch):
    enable_socket()
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)
    monkeypatch.setenv("UNDERTOW_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    known = Service()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            known.headers.append({name.lower(): value for name, value in self.headers.items()})
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, said = known.answer(self.command, self.path, body)
            content = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _do

        def log_message(self, *_) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    known.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    yield known
    server.shutdown()
    server.server_close()
    thread.join()


def student(service: Service, **changes) -> OpenAITrainer:
    given = {"name": "openai", "model": "small", "url": service.url, "poll_s": 0.01}
    return OpenAITrainer(**{**given, "retries": Retries(tries=3, pause_s=0.01), **changes})


def test_a_job_is_uploaded_begun_and_waited_for(service: Service, tmp_path: Path) -> None:
    out = tmp_path / "job.json"
    record = train_remotely(student(service), ROWS, TRAINING, out)
    assert record.trained == f"api:{service.url}/ft:small:1"
    assert service.asked == [
        "GET /v1/models/small", "POST /v1/files", "GET /v1/fine_tuning/jobs", "POST /v1/fine_tuning/jobs",
        "GET /v1/fine_tuning/jobs/job-0", "GET /v1/fine_tuning/jobs/job-0",
    ]  # fmt: skip
    lines = [line for line in service.bodies["POST /v1/files"].splitlines() if line.startswith(b'{"messages"')]
    assert len(lines) == len(ROWS)
    assert json.loads(lines[0])["messages"][-1] == {"role": "assistant", "content": "1, 2"}
    begun = json.loads(service.bodies["POST /v1/fine_tuning/jobs"])
    assert begun["seed"] == 7 and begun["method"]["supervised"]["hyperparameters"] == {"n_epochs": 2}
    assert {one["authorization"] for one in service.headers} == {f"Bearer {KEY}"}
    assert KEY not in out.read_text()
    assert json.loads(out.read_text())["schema"] == SCHEMA


def test_a_finished_job_is_not_asked_for_again(service: Service, tmp_path: Path) -> None:
    first = train_remotely(student(service), ROWS, TRAINING, tmp_path / "job.json")
    before = len(service.asked)
    assert train_remotely(student(service), ROWS, TRAINING, tmp_path / "job.json") == first
    assert len(service.asked) == before


def test_a_job_whose_begin_was_cut_off_is_found_and_not_begun_twice(service: Service, tmp_path: Path) -> None:
    answer = service.answer

    def lost(method: str, path: str, body: bytes) -> tuple[int, dict]:
        status, said = answer(method, path, body)
        return (502, {}) if (method, path) == ("POST", "/v1/fine_tuning/jobs") else (status, said)

    service.answer = lost
    with pytest.raises(ModelError, match="refuses POST"):
        train_remotely(student(service), ROWS, TRAINING, tmp_path / "job.json")
    service.answer = answer
    record = train_remotely(student(service), ROWS, TRAINING, tmp_path / "job.json")
    assert record.state == {"file": "file-1", "job": "job-0"} and len(service.jobs) == 1
    assert service.asked.count("POST /v1/files") == 1


def test_what_passes_is_tried_again_and_what_does_not_is_told_without_the_key(service: Service, tmp_path: Path) -> None:
    service.faults = {"POST /v1/files": [429, 500], "GET /v1/fine_tuning/jobs/job-0": [503]}
    assert train_remotely(student(service), ROWS, TRAINING, tmp_path / "job.json").trained
    service.faults = {"GET /v1/models/small": [401]}
    with pytest.raises(ModelError, match="401") as caught:
        train_remotely(student(service), ROWS, TRAINING, tmp_path / "other.json")
    assert KEY not in str(caught.value) and "[key]" in str(caught.value)
    assert not (tmp_path / "other.json").exists()


def test_a_failed_job_says_why(service: Service, tmp_path: Path) -> None:
    service.polls = [{"status": "failed", "error": {"message": f"too few rows, {KEY}"}}]
    with pytest.raises(ModelError, match="too few rows") as caught:
        train_remotely(student(service), ROWS, TRAINING, tmp_path / "job.json")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("ends", ["2026-10-23", 1792713600])
def test_a_model_that_was_shut_down_is_refused_with_the_date(service: Service, tmp_path: Path, ends) -> None:
    service.model = {"id": "small", "shutdown_date": ends}
    with pytest.raises(ModelError, match="2026-10-2"):
        train_remotely(student(service, today=lambda: date(2026, 11, 1)), ROWS, TRAINING, tmp_path / "job.json")
    assert service.asked == ["GET /v1/models/small"]
    student(service, today=lambda: date(2026, 10, 1)).check()


def test_openai_is_refused_after_its_last_day_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelError, match="no new fine-tuning"):
        OpenAITrainer(name="openai", model="gpt-4.1-mini", today=lambda: CLOSES).check()


def test_azure_has_a_header_of_its_own(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-secret-1")
    student(service, name="azure").check()
    assert service.headers[-1]["api-key"] == "azure-secret-1" and "authorization" not in service.headers[-1]


def test_the_record_of_another_job_is_not_overwritten(service: Service, tmp_path: Path) -> None:
    out = tmp_path / "job.json"
    train_remotely(student(service), ROWS, TRAINING, out)
    with pytest.raises(ArtifactError, match="another training job"):
        train_remotely(student(service), ROWS[1:], TRAINING, out)
    for text in ("rows", "{}", "[]", '{"schema": "undertow.remote-training/1", "odd": 1}'):
        out.write_text(text)
        with pytest.raises(ArtifactError, match="no record"):
            read_record(out)


def test_a_cap_is_kept_and_needs_a_price(service: Service, tmp_path: Path) -> None:
    bound = estimate(ROWS, TRAINING, price=1000.0)
    text = sum(len(row.question) + len(row.completion) for row in ROWS)
    assert bound.tokens >= 2 * text and bound.dollars == pytest.approx(bound.tokens / 1000.0)
    with pytest.raises(ConfigError, match="cost more"):
        train_remotely(student(service), ROWS, TRAINING, tmp_path / "job.json", Cap(price=1000.0, dollars=0.01))
    assert service.asked == [] and not (tmp_path / "job.json").exists()
    with pytest.raises(ConfigError, match="needs a price"):
        Cap(dollars=1.0)


def test_references_name_services() -> None:
    assert trainer("tinker:Qwen/Qwen3-8B").model == "Qwen/Qwen3-8B"
    named = trainer("azure:https://mine.openai.azure.com/openai/v1/gpt-4.1-mini")
    assert isinstance(named, OpenAITrainer)
    assert (named.url, named.model) == ("https://mine.openai.azure.com/openai/v1", "gpt-4.1-mini")
    with pytest.raises(UnknownNameError, match="tinker"):
        trainer("tinkr:x")
    for bad in ("openai:", "tinker:", "azure:gpt", "openai:https://user:secret@host/v1/x"):
        with pytest.raises(ConfigError) as caught:
            trainer(bad)
        assert "secret" not in str(caught.value)


def test_a_missing_key_is_named(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNDERTOW_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ConfigError, match="UNDERTOW_API_KEY"):
        student(service).check()


def test_the_command_asks_nobody_in_a_dry_run_and_trains_otherwise(service: Service, tmp_path: Path, capsys) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "Go on: 1.", "completion": "2"}\n')
    words = ["train-remote", str(rows), str(tmp_path / "job.json"), "--model", f"openai:{service.url}/small", "--json"]
    assert main([*words, "--price", "3", "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 1 and service.asked == []
    assert main([*words, "--max-cost", "5"]) == 2
    assert "price" in capsys.readouterr().err
    service.polls = service.polls[1:]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["model"].endswith("/ft:small:1")


def test_dates_are_read_as_text_and_as_seconds() -> None:
    assert _date("2026-10-23T00:00:00Z") == _date(1792713600) == date(2026, 10, 23)
