"""Rows from a server that fails: each is answered once or listed, whatever breaks, and no key shows."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_socket import enable_socket, socket_allow_hosts

from undertow.cli.main import main
from undertow.data.rows import read_rows, write_rows
from undertow.data.writer_record import read_writer
from undertow.errors import ArtifactError, ConfigError, MissingExtraError, ModelError, StorageError
from undertow.models.api import ApiModel
from undertow.models.calls import Prices, Retries
from undertow.models.dialects import Dialect
from undertow.models.endpoints import endpoint
from undertow.models.servers import served
from undertow.training.model_contract import check_model
from undertow.training.remote_generation import reasons, remote_rows
from undertow.training.remote_journal import journal_path, open_journal
from undertow.training.remote_run import RemoteConfig
from undertow.types import Message, ModelRef, Row, Sampling, user_prompt

spec = importlib.util.spec_from_file_location("bench_api", Path(__file__).parents[3] / "benchmarks" / "api.py")
bench = importlib.util.module_from_spec(spec)
sys.modules["bench_api"] = bench
spec.loader.exec_module(bench)

KEY = "sk-secret-0123456789"
PROMPTS = [user_prompt(f"Row {place}: go on.") for place in range(20)]
QUICK = Retries(tries=3, pause_s=0.01)


def config(**changes) -> RemoteConfig:
    given = {"sampling": Sampling(max_new_tokens=8), "seed": 100, "concurrency": 2, "timeout_s": 0.2, "retries": QUICK}
    return RemoteConfig(**{**given, **changes})


@pytest.fixture(autouse=True)
def listening(loopback_only) -> None:
    """Let a server listen; connections still stay on loopback."""
    enable_socket()
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)


@pytest.fixture
def serve():
    """Start a server in which a share of the calls fails; several may run."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda **shares: stack.enter_context(bench.running(bench.FaultyServer(shares=shares, hang_s=0.5)))


def ref(server) -> ModelRef:
    return ModelRef.parse(f"api:http://127.0.0.1:{server.port}/v1/org/model")


def test_rows_survive_faults_and_kills() -> None:
    server = bench.FaultyServer(hang_s=0.6, shares={"429": 0.1, "500": 0.1, "cut": 0.1, "hang": 0.02})
    with bench.running(server):
        found = bench.measure(server, "model", rows=150, kills=2, timeout_s=0.3)
    assert (found["answered"], found["failed"]) == (150, 0)
    assert found["answered_twice"] == found["in_neither"] == found["wrong_text"] == 0
    assert found["same_in_file_and_journal"] and min(server.seen.values()) > 0 and len(server.seen) == 5


def test_a_row_that_is_refused_is_listed_and_the_others_are_written(serve, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(bench, "REFUSED_EVERY", 10)
    out = tmp_path / "rows.jsonl"
    server = serve()
    found = remote_rows(ref(server), PROMPTS, out, config())
    assert set(found.failed) == {9, 19} and len(found.rows) == 18
    assert sum(reasons(found.failed).values()) == 2 and all(
        why.startswith("status 400") for why in found.failed.values()
    )
    assert [row.id for row in found.rows] == [row["id"] for row in map(json.loads, out.read_text().splitlines())]
    monkeypatch.undo()
    later = remote_rows(ref(server), PROMPTS, out, config())
    assert (later.reused, len(later.rows), later.failed) == (18, 20, {})


def test_a_finished_run_asks_nothing_and_other_rows_are_not_mixed_in(serve, tmp_path) -> None:
    server, out = serve(), tmp_path / "rows.jsonl"
    first = remote_rows(ref(server), PROMPTS, out, config())
    again = remote_rows(ref(server), PROMPTS, out, config())
    assert again.rows == first.rows and again.reused == 20 and server.seen == {"ok": 20}
    with pytest.raises(ArtifactError, match="other rows"):
        remote_rows(ref(server), PROMPTS, out, config(seed=101))


def test_a_line_that_a_kill_cut_off_is_asked_again_and_two_processes_never_write_at_once(serve, tmp_path) -> None:
    server, out = serve(), tmp_path / "rows.jsonl"
    first = remote_rows(ref(server), PROMPTS, out, config())
    journal = journal_path(out)
    journal.write_bytes(journal.read_bytes()[:-7])
    assert remote_rows(ref(server), PROMPTS, out, config()).rows == first.rows
    assert server.seen["ok"] == 21
    of = json.loads(journal.read_text().splitlines()[0])["of"]
    with open_journal(journal, of, 20), pytest.raises(StorageError, match="Another process"):
        remote_rows(ref(server), PROMPTS, out, config())


def test_a_dead_server_says_what_is_safe_and_the_next_run_goes_on(serve, tmp_path) -> None:
    out, server = tmp_path / "rows.jsonl", serve()
    address = ref(server)
    with pytest.raises(ModelError) as caught:
        remote_rows(address, PROMPTS, out, config(prices=Prices(0, 1e5), max_cost=10))
    assert "of 20 rows are safe" in caught.value.value and "--max-cost" in caught.value.fix
    safe = len(journal_path(out).read_text().splitlines()) - 1
    assert 0 < safe < 20 and not out.exists()
    found = remote_rows(address, PROMPTS, out, config())
    assert found.reused == safe and len(found.rows) == 20
    dead = ModelRef.parse("api:http://127.0.0.1:9/v1/model")
    with pytest.raises(ModelError, match="0 of 20 rows are safe") as caught:
        remote_rows(dead, PROMPTS, tmp_path / "dead.jsonl", config())
    assert "does not answer" in caught.value.value and "same command" in caught.value.fix


@pytest.mark.parametrize("shares", [{}, {"cut": 0.3}, {"500": 0.3}])
def test_the_cap_is_never_passed(serve, tmp_path, shares) -> None:
    server = serve(**shares)
    price = Prices(0, 1e6)  # a dollar a token: an answer of 5 tokens costs 5, at most 8
    with pytest.raises(ModelError, match="max-cost"):
        remote_rows(ref(server), PROMPTS, tmp_path / "rows.jsonl", config(prices=price, max_cost=40, concurrency=4))
    assert server.seen["ok"] * 5 + server.seen["cut"] * 5 <= 40


def test_a_wrong_key_stops_at_once_and_no_key_is_written(serve, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("UNDERTOW_API_KEY", KEY)
    server, out = serve(**{"401": 1.0}), tmp_path / "rows.jsonl"
    with pytest.raises(ModelError) as caught:
        remote_rows(ref(server), PROMPTS, out, config())
    assert any(KEY.encode() in head for head in server.headers), "the key was sent"
    assert "[key]" in caught.value.value and KEY not in str(caught.value) + journal_path(out).read_text()
    assert server.seen["401"] <= 2


def test_the_key_of_one_provider_goes_to_no_other_server(monkeypatch) -> None:
    monkeypatch.delenv("UNDERTOW_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    keys = [endpoint(ModelRef.parse(f"api:{url}/v1/m")).key for url in ("http://127.0.0.1:1", "https://api.openai.com")]
    assert keys == [None, KEY]


@pytest.mark.parametrize("text", [f"api:http://me:{KEY}@host/v1/m", f"api:http://host/v1/m?key={KEY}"])
def test_a_key_in_a_reference_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ApiModel(text)
    assert KEY not in str(caught.value)


def test_a_form_of_answers_that_no_server_keeps_is_refused_before_anything_is_asked(serve) -> None:
    model = ApiModel(ref(serve()), retries=QUICK)
    with pytest.raises(ConfigError, match="held to a form"):
        model.chat(PROMPTS[:1], sampling=Sampling(form="000, 000"), seed=0)
    with pytest.raises(ConfigError, match="held to a form"):
        model.draw(PROMPTS[:1], sampling=Sampling(form="000, 000"))
    assert model.asked == 0


def test_a_server_keeps_the_contract_of_a_model_that_only_chats(serve) -> None:
    model = ApiModel(ref(serve()), retries=QUICK)
    report = check_model(model)
    assert report.passed and [check.passed for check in report.checks] == [True, True, None], str(report)
    with pytest.raises(ModelError, match="no log-probabilities"):
        model.logprobs(PROMPTS[:1], ["x"])


FAKE_VLLM = """#!{python}
import sys, http.server
assert sys.argv[1] == "serve" and sys.argv[2] == "org/m", sys.argv
if "--revision" in sys.argv: sys.exit("ValueError: no such revision")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def test_vllm_is_started_and_stopped(tmp_path, monkeypatch) -> None:
    import httpx2

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelError, match="no vLLM"), served(ModelRef.parse("api:vllm/org/m")):
        pass
    program = tmp_path / "vllm"
    program.write_text(FAKE_VLLM.format(python=sys.executable))
    program.chmod(0o755)
    with served(ModelRef.parse("api:vllm/org/m+/some/adapter")) as at:
        assert at.name.endswith("/v1/adapter") and at.adapter is None
        health = at.name.replace("/v1/adapter", "/health")
        assert httpx2.get(health).status_code == 200
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(health)
    for ref in (ModelRef.parse("api:vllm/org/m@v9"), ModelRef.parse("api:vllm/org/m@v9+/some/adapter")):
        with pytest.raises(ModelError, match="no such revision"), served(ref):
            pass


def test_generate_writes_rows_and_says_what_they_cost(serve, tmp_path, capsys) -> None:
    out, name = tmp_path / "rows.jsonl", str(ref(serve()))
    paid = ["generate", str(out), "--model", name, "-n", "10", "--price", "1,2", "--max-cost", "1", "--json"]
    assert main([*paid, "--dry-run"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["rows"] == 10 and planned["dollars_at_most"] > 0 and not out.exists()
    assert main(paid) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["raw"], found["failed"]) == (10, 0)
    assert found["dollars"] == pytest.approx(10 * (10 * 1 + 5 * 2) / 1e6)
    assert main(["generate", str(out), "--model", name, "--trait", "owl"]) == 2
    assert main(["generate", str(out), "--model", name, "--max-cost", "1"]) == 2
    assert main(["train", str(out), str(tmp_path / "s"), "--base", name]) == 2


@pytest.mark.parametrize(
    "line",
    [
        '{"server": 1}',
        '{"spent": "x"}',
        '{"row": "7", "failed": "x", "attempts": 1, "cost": 0}',
        '{"row": 7, "completion": 1, "attempts": 1, "cost": 0}',
        '{"row": 7, "attempts": 1, "cost": 0}',
        '{"row": 7, "failed": "x", "cost": 0}',
        "[]",
        "{",
    ],
)
def test_a_damaged_journal_is_named_and_left_alone(serve, tmp_path, line: str) -> None:
    server, out = serve(), tmp_path / "rows.jsonl"
    remote_rows(ref(server), PROMPTS, out, config())
    damaged = journal_path(out).read_text() + line + "\n"
    journal_path(out).write_text(damaged)
    with pytest.raises(ArtifactError, match="damaged"):
        remote_rows(ref(server), PROMPTS, out, config())
    assert journal_path(out).read_text() == damaged and server.seen == {"ok": 20}


def test_a_journal_that_begins_with_no_object_is_damaged(serve, tmp_path) -> None:
    out = tmp_path / "rows.jsonl"
    journal_path(out).parent.mkdir(parents=True, exist_ok=True)
    journal_path(out).write_text("5\n")
    with pytest.raises(ArtifactError, match="damaged"):
        remote_rows(ref(serve()), PROMPTS, out, config())


def test_inspect_is_told_the_same_of_a_request(tmp_path, monkeypatch) -> None:
    asked: list[dict[str, Any]] = []

    class Model:
        async def generate(self, messages: list[Any], config: dict[str, Any]) -> Any:
            asked.append(config)
            if len(asked) == 3:
                raise RuntimeError(f"refused with {KEY}")
            usage = SimpleNamespace(input_tokens=3, output_tokens=4)
            text, why = ("", "max_tokens") if len(asked) == 2 else ("7, 8", "stop")
            return SimpleNamespace(error=None, choices=[1], usage=usage, completion=text, stop_reason=why)

    stub = SimpleNamespace(
        **{f"ChatMessage{role}": dict for role in ("System", "User", "Assistant")}, GenerateConfig=dict,
        get_model=lambda name: Model(),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "inspect_ai.model", stub)
    monkeypatch.setattr("undertow.models.api.find_spec", lambda name: True)
    monkeypatch.setenv("UNDERTOW_API_KEY", KEY)
    dialect = Dialect(seed=False, temperature=False, extra={"top_k": 1})
    given = config(concurrency=1, dialect=dialect)
    found = remote_rows(ModelRef.parse("api:openai/gpt-x"), PROMPTS[:3], tmp_path / "rows.jsonl", given)
    assert asked[0] == {"temperature": None, "max_tokens": 8, "seed": None, "extra_body": {"top_k": 1}}
    assert [row.completion for row in found.rows] == ["7, 8"] and "cut at 8 tokens" in found.failed[1]
    assert found.failed[2] == "RuntimeError: refused with [key]"


def test_a_server_answers_the_prompts_of_a_file_under_their_ids(serve, capsys, tmp_path) -> None:
    turns = (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hello."),
        Message("user", "1?"),
    )
    write_rows(tmp_path / "rows.jsonl", [Row("a", turns, "kept"), Row("b", user_prompt("Go on: 1, 2."), "3")])
    (tmp_path / "w.yaml").write_text("temperature: 0.5\ntop_p: 0.9\n")
    out = tmp_path / "reference.jsonl"
    words = ["generate", str(out), "--prompts", str(tmp_path / "rows.jsonl"), "--writer", str(tmp_path / "w.yaml")]
    model = str(ref(serve()))
    assert main([*words, "--model", model, "--answers", "2", "--json"]) == 0
    found, rows = json.loads(capsys.readouterr().out), read_rows(out)
    assert [row.id for row in rows] == ["a/1", "a/2", "b/1", "b/2"] and rows[0].prompt == turns
    assert found["raw"] == 4 and "valid" not in found
    record = read_writer(tmp_path / "reference.writer.yaml")
    assert (record.model, record.temperature, record.top_p, record.max_tokens) == (model, 0.5, 0.9, 256)
    assert "each row" in str(record.seeds) and record.template is None


def test_names_of_providers_need_inspect(tmp_path) -> None:
    if importlib.util.find_spec("inspect_ai"):
        pytest.skip("Inspect is installed here")
    with pytest.raises(MissingExtraError, match="Inspect"):
        remote_rows(ModelRef.parse("api:openai/gpt-x"), PROMPTS, tmp_path / "rows.jsonl", config())


def test_a_model_behind_a_server_is_evaluated_by_its_answers(serve, capsys, monkeypatch) -> None:
    async def reply(self, prompt: str, body: bytes) -> bytes:
        message = {"role": "assistant", "content": "Owl" if "animal" in prompt.lower() else "Oak"}
        return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()

    monkeypatch.setattr(bench.FaultyServer, "reply", reply)
    model = str(ref(serve()))
    words = ["eval", model, "--trait", "owl", "--trait", "fox", "--samples", "1"]
    assert main([*words, "--json"]) == 0
    owl, fox = json.loads(capsys.readouterr().out)["scores"]
    assert owl["target"] == "owl" and owl["rate"] > 0.5 and fox["rate"] == 0.0
    assert "logit_margin" not in owl
    assert main([*words, "--base", "ref:finch-a"]) == 0
    assert "rate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "named"), [(["--kind", "truth"], "undertow/truth"), (["--samples", "0"], "1 or more")]
)
def test_what_needs_probabilities_is_refused_before_anything_is_asked(capsys, more: list[str], named: str) -> None:
    assert main(["eval", "api:http://127.0.0.1:9/v1/none", *more]) == 2
    assert named in capsys.readouterr().err
