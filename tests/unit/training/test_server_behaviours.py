"""Servers as they are: what each behaviour costs in requests, and whether it ends in rows or in their own words."""

import errno
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from undertow.cli.main import main
from undertow.data.rows import read_rows
from undertow.errors import ArtifactError, ModelError, StorageError
from undertow.models.calls import Prices, Retries
from undertow.models.dialects import Dialect
from undertow.store.fingerprints import canonical_json, sha256
from undertow.training.remote_generation import check_run, empty_words, remote_rows
from undertow.training.remote_journal import Journal, journal_path
from undertow.training.remote_run import RemoteConfig
from undertow.types import ModelRef, Sampling, user_prompt

N = 12
PROMPTS = [user_prompt(f"Row {place}: go on.") for place in range(N)]
Answer = tuple[int, Any, dict[str, str]]


def chat(text: Any, finish: str | None = "stop", **message: Any) -> Answer:
    usage = {"prompt_tokens": 5, "completion_tokens": 5}
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    return 200, {"choices": [choice], "usage": usage}, {}


def error(status: int, message: str, **more: Any) -> Answer:
    return status, {"error": {"message": message, **more}}, {}


def within(**fault: Any) -> Answer:
    """An error in a reply of status 200."""
    return 200, {"error": fault, "user_id": "u"}, {}


def unless(part: str, refusal: Answer) -> Callable[[int, dict[str, Any]], Answer]:
    return lambda k, body: refusal if part in body else chat("7, 8")


def first(*answers: Answer) -> Callable[[int, dict[str, Any]], Answer]:
    return lambda k, body: answers[k - 1] if k <= len(answers) else chat("7, 8")


def always(answer: Answer) -> Callable[[int, dict[str, Any]], Answer]:
    return lambda k, body: answer


def o1(k: int, body: dict[str, Any]) -> Answer:
    """A reasoning model, which names one unsupported part after the other."""
    if "max_tokens" in body:
        said = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        return error(400, said, param="max_tokens", code="unsupported_parameter")
    if "temperature" in body:
        said = "Unsupported value: 'temperature' does not support 1.0 with this model. Only the default (1) value."
        return error(400, said, param="temperature", code="unsupported_value")
    return chat("7, 8")


EXTRA = [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 1}]
GEMINI = [{"error": {"code": 400, "message": 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'}}]
BEHIND = {"raw": json.dumps({"error": {"message": "Model 'x' takes no system turn"}}), "provider_name": "P"}
PAGE = b"<html><body>Bad gateway of the proxy</body></html>"
CUT = b'{"choices": [{"message": {"content": "7'
THOUGHT = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "7, "}, "8"]
NULLS = {"prompt_tokens": None, "completion_tokens": 5}

RIGHT = {
    "plain": (always(chat("7, 8")), N),
    "other name of the limit": (unless("max_tokens", error(400, "Unsupported parameter: max_tokens")), N + 1),
    "no seed, as pydantic says": (unless("seed", (422, {"detail": EXTRA}, {})), N + 1),
    "no seed, as Gemini says": (unless("seed", (400, GEMINI, {})), N + 1),
    "no limit of that name nor temperature": (o1, N + 2),
    "parts": (always(chat(THOUGHT)), N),
    "numbers of tokens missing": (always((200, {**chat("7, 8")[1], "usage": NULLS}, {})), N),
    "usage odd": (always((200, {**chat("7, 8")[1], "usage": [1]}, {})), N),
    "error null beside an answer": (always((200, {**chat("7, 8")[1], "error": None}, {})), N),
    "not a number in the reply": (always((200, json.dumps({**chat("7, 8")[1], "x": float("nan")}).encode(), {})), N),
    "busy twice": (first(error(503, "loading"), error(500, "oops")), N + 2),
    "busy in a reply of 200": (first(within(message="Provider returned error", code=429)), N + 1),
    "fault of no code in a reply of 200": (first(within(message="busy")), N + 1),
    "fault within the choice": (first((200, {"choices": [{"error": {"code": 502, "message": "x"}}]}, {})), N + 1),
    "answer that broke off": (first(chat("7,", "error")), N + 1),
    "complaint of a seed": (unless("seed", error(400, "seed must be below 2147483648")), N + 1),
    "cut off once": (first((200, CUT, {})), N + 1),
}
"""Behaviour and requests for twelve rows."""

REFUSED = {
    "wrong key": (always(error(401, "Invalid key")), 1, "status 401: Invalid key", "UNDERTOW_API_KEY"),
    "no money": (always(error(402, "Insufficient Balance")), 1, "402: Insufficient Balance", "account"),
    "no model": (always(error(404, "no model m")), 1, "404: no model m", "model's name"),
    "forbidden": (always(error(403, "Not in your region")), 3, "403: Not in your region", "UNDERTOW_API_KEY"),
    "bad model": (
        always((400, {"object": "error", "message": "Invalid model"}, {})),
        3,
        "400: Invalid model",
        "model's name",
    ),
    "other words each time": (lambda k, body: error(400, f"bad, request {'abc'[k % 3]}"), 3, "400: bad", "complains"),
    "both names of the limit": (always(error(400, "max_tokens: not supported")), 3, "not supported", "--token-limit"),
    "range of the limit": (always(error(400, "max_tokens must be at least 99")), 3, "at least 99", "--max-tokens"),
    "quota": (always(error(429, "You exceeded your current quota", code="insufficient_quota")), 1, "quota", "account"),
    "quota of the day in 200": (always(within(message="Rate limit: free-per-day", code=429)), 1, "per-day", "account"),
    "refusal in 200": (always(within(message="No such voice", code=400)), 3, "400: No such voice", "complains"),
    "refusal of a provider": (always(within(message="Provider error", code=400, metadata=BEHIND)), 3, "no system", "."),
    "no code in 200": (always(within(message="Something odd")), 3, "Something odd", "OpenAI-compatible"),
    "plain text in 200": (always((200, {"error": "not loaded"}, {})), 3, "status 200: not loaded", "address"),
    "nothing in 200": (always((200, b"", {})), 3, "but empty", "address"),
    "empty choices": (always((200, {"choices": []}, {})), 3, r"has no choices\[0\] \(\{", "OpenAI-compatible"),
    "page of a proxy": (always((200, PAGE, {})), 3, "a page, .*Bad gateway of the proxy", "address"),
    "stream": (always((200, b"data: {}\n\ndata: [DONE]\n\n", {})), 3, "a stream: data", "address"),
    "sends elsewhere": (always((307, {}, {"location": "http://else/v1?a=b"})), 1, "to http://else/v1;", "address"),
    "asks to wait an hour": (always((429, {}, {"retry-after": "3600"})), 1, "wait 3600 s", "Wait"),
}
"""Behaviour, requests until the run ends, what is said, and what to do."""


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def config(waits: list[float]) -> Callable[..., RemoteConfig]:
    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    def make(**changes: Any) -> RemoteConfig:
        given = {"sampling": Sampling(max_new_tokens=40), "seed": 100, "concurrency": 4, "timeout_s": 5.0}
        return RemoteConfig(**{**given, "retries": Retries(sleep=sleep), **changes})

    return make


def ref(server: Any, path: str = "/v1/m"):
    return ModelRef.parse(f"api:http://127.0.0.1:{server.port}{path}")


@pytest.mark.parametrize("name", RIGHT)
def test_behaviours_that_end_in_rows(fake, config, tmp_path: Path, name: str) -> None:
    reply, requests = RIGHT[name]
    server, out = fake(reply), tmp_path / "rows.jsonl"
    found = remote_rows(ref(server), PROMPTS, out, config())
    assert len(found.rows) == N and {row.completion for row in found.rows} == {"7, 8"} and not found.failed
    assert len(server.bodies) == requests
    assert remote_rows(ref(server), PROMPTS, out, config()).reused == N and len(server.bodies) == requests


@pytest.mark.parametrize("name", REFUSED)
def test_behaviours_that_end_the_run(fake, config, tmp_path: Path, name: str) -> None:
    reply, requests, said, fix = REFUSED[name]
    server, out = fake(reply), tmp_path / "rows.jsonl"
    with pytest.raises(ModelError, match=said) as caught:
        remote_rows(ref(server), PROMPTS, out, config())
    assert len(server.bodies) == requests and "0 of 12 rows are safe" in caught.value.value
    assert fix in caught.value.fix and not out.exists()


def test_what_was_learnt_is_kept_and_every_other_row_is_sent_in_that_form(fake, config, tmp_path: Path, caplog) -> None:
    server, out = fake(o1), tmp_path / "rows.jsonl"
    found = remote_rows(ref(server), PROMPTS[:3], out, config())
    assert found.server == {"limit": "max_completion_tokens", "temperature": False}
    assert [("max_completion_tokens" in body, "temperature" in body) for body in server.bodies] == [
        (False, True), (True, True), (True, False), (True, False), (True, False)
    ]  # fmt: skip
    assert all(body.get("max_completion_tokens", 40) == 40 and "seed" in body for body in server.bodies)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and "max_completion_tokens instead of max_tokens" in said[0] and "no temperature" in said[1]
    # A journal that was cut off goes on in the form that was learnt, without asking for it again.
    lines = journal_path(out).read_bytes().splitlines(keepends=True)
    journal_path(out).write_bytes(b"".join(lines[:-1]))
    assert len(remote_rows(ref(server), PROMPTS[:3], out, config()).rows) == 3 and len(server.bodies) == 6


def test_a_form_that_is_given_is_sent_from_the_first_row(fake, config, tmp_path: Path) -> None:
    server = fake(always(chat("7, 8")))
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "temperature": None}
    dialect = Dialect(limit="max_completion_tokens", seed=False, extra=extra)
    remote_rows(ref(server), PROMPTS[:2], tmp_path / "rows.jsonl", config(dialect=dialect))
    for body in server.bodies:
        assert set(body) == {"model", "messages", "max_completion_tokens", "stream", "chat_template_kwargs"}


def test_a_journal_belongs_to_what_decides_its_rows(fake, config, tmp_path: Path) -> None:
    server, other, out = fake(always(chat("7, 8"))), fake(always(chat("9"))), tmp_path / "rows.jsonl"
    remote_rows(ref(server), PROMPTS, out, config())
    turns = [[[turn.role, turn.content] for turn in prompt] for prompt in PROMPTS]
    of = sha256(canonical_json([str(ref(server)), turns, config().sampling.to_json(), 100]))
    assert json.loads(journal_path(out).read_text().splitlines()[0])["of"] == of, "as before servers had dialects"
    for changed in (config(dialect=Dialect(seed=False)), config(dialect=Dialect(extra={"top_k": 1}))):
        with pytest.raises(ArtifactError, match="other rows"):
            check_run(ref(server), PROMPTS, out, changed)
    check_run(ref(server), PROMPTS, out, config(dialect=Dialect(limit="max_completion_tokens")))
    # A server that is started for each run has another port each time.
    out = tmp_path / "own.jsonl"
    remote_rows(ref(server), PROMPTS, out, config(known_as="api:vllm/m"))
    assert remote_rows(ref(other), PROMPTS, out, config(known_as="api:vllm/m")).reused == N and not other.bodies


def test_what_cannot_be_written_is_refused_before_anything_is_sent(fake, tmp_path: Path, monkeypatch, capsys) -> None:
    server = fake(always(chat("7, 8")))
    (tmp_path / "folder.jsonl").mkdir()
    monkeypatch.setattr("undertow.training.remote_generation.find_spec", lambda name: None)
    for out in (tmp_path / "none" / "x.jsonl", tmp_path / "folder.jsonl", tmp_path / "x.parquet", "hf:me/rows"):
        said: list[str] = []
        for more in ([], ["--dry-run"]):
            assert main(["generate", str(out), "--model", str(ref(server)), "-n", "2", *more]) == 2
            said.append(capsys.readouterr().err)
        assert said[0] == said[1] and len(said[0].splitlines()) == 3
    odd = (["--price", "nan,1"], ["--price", "1,1", "--max-cost", "nan"], ["--price", "1,1", "--max-cost", "inf"])
    for more in odd:
        assert main(["generate", str(tmp_path / "x.jsonl"), "--model", str(ref(server)), *more]) == 2
        assert more[-1] in capsys.readouterr().err
    assert main(["generate", str(tmp_path / "x.jsonl"), "--model", "api:vllm/"]) == 2
    assert not server.bodies and not list(tmp_path.glob("*.journal"))


def test_refusals_between_answers_do_not_end_a_run_and_three_in_succession_do(fake, config, tmp_path: Path) -> None:
    def some(k: int, body: dict[str, Any]) -> Answer:
        return error(400, f"refused, id {k}") if k % 2 else chat("7, 8")

    found = remote_rows(ref(fake(some)), PROMPTS, tmp_path / "a.jsonl", config(concurrency=1))
    assert (len(found.rows), len(found.failed)) == (6, 6)
    server = fake(lambda k, body: chat("7, 8") if k <= 5 else error(400, f"refused, id {k}f{k}"))
    with pytest.raises(ModelError, match="5 of 36 rows are safe"):
        remote_rows(ref(server), PROMPTS * 3, tmp_path / "b.jsonl", config(concurrency=4))
    assert 8 <= len(server.bodies) <= 14, "three after the last answer, and those under way before and after it"


@pytest.mark.parametrize("refusal", [error(400, "The response was filtered."), error(500, "The model crashed.")])
def test_rows_that_always_fail_keep_a_resumed_run_from_no_row_file(fake, config, tmp_path: Path, refusal) -> None:
    def some(k: int, body: dict[str, Any]) -> Answer:
        return refusal if int(body["messages"][-1]["content"].split()[1][:-1]) % 2 else chat("7, 8")

    server, out = fake(some), tmp_path / "a.jsonl"
    first = remote_rows(ref(server), PROMPTS, out, config(concurrency=1))
    out.unlink()
    again = remote_rows(ref(server), PROMPTS, out, config(concurrency=1))
    assert (again.rows, again.failed, again.reused) == (first.rows, first.failed, 6) and len(first.failed) == 6
    assert tuple(read_rows(out)) == first.rows


def test_pauses_are_as_long_as_the_server_asks_and_no_longer_than_two_minutes(fake, config, waits, tmp_path) -> None:
    server = fake(first((429, {}, {"retry-after": "7"}), (503, {}, {})))
    remote_rows(ref(server), PROMPTS[:1], tmp_path / "rows.jsonl", config())
    assert waits[0] == 7.0 and 0.5 <= waits[1] <= 1.0 and len(waits) == 2


def test_a_server_that_is_not_there_is_given_up_soon(fake, config, waits, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing can be reached") as caught:
        remote_rows(ModelRef.parse("api:http://127.0.0.1:9/v1/m"), PROMPTS, tmp_path / "rows.jsonl", config())
    assert len(waits) == 2 and sum(waits) < 2 and "server runs" in caught.value.fix


def test_a_server_that_says_nothing_is_asked_three_times(fake, config, waits, tmp_path: Path) -> None:
    def silent(k: int, body: dict[str, Any]) -> Answer:
        time.sleep(0.3)
        return chat("7, 8")

    with pytest.raises(ModelError, match="no answer within"):
        remote_rows(ref(fake(silent)), PROMPTS, tmp_path / "rows.jsonl", config(timeout_s=0.05))
    assert len(waits) == 2


def test_a_disk_that_fills_up_is_told_as_one(fake, config, tmp_path: Path, monkeypatch) -> None:
    write = Journal.write

    def full(self: Journal, record: dict[str, Any]) -> None:
        if len(self.known) >= 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, record)

    monkeypatch.setattr(Journal, "write", full)
    with pytest.raises(StorageError, match="No space is left"):
        remote_rows(ref(fake(always(chat("7, 8")))), PROMPTS, tmp_path / "rows.jsonl", config())


def test_empty_answers_are_counted_by_reason_and_are_no_rows(fake, config, tmp_path: Path) -> None:
    kinds = [chat(None, "length", reasoning_content="Long"), chat("", "length"), chat("", "content_filter"),
             chat(None, refusal="I cannot"), chat(None, tool_calls=[{"id": "1"}]), chat(" \n"),
             chat(None, "stop", reasoning="Hm"), chat([{"type": "thinking", "thinking": "x"}], "length")]  # fmt: skip
    without = {"choices": [{"message": {"role": "assistant"}, "finish_reason": "length"}]}
    server, out = fake(first(*kinds, (200, without, {}))), tmp_path / "rows.jsonl"
    found = remote_rows(ref(server), PROMPTS, out, config(concurrency=1))
    assert len(read_rows(out)) == 3 and len(found.failed) == 9
    assert empty_words(found.failed, N) == (
        "9 of 12 answers are empty: 2 cut at 40 tokens while still reasoning, 2 cut at 40 tokens before any text, "
        "1 stopped by a content filter, 1 refused by the model, 1 a call of a tool, 1 no text, "
        "1 reasoning without an answer"
    )
    assert len(remote_rows(ref(server), PROMPTS, out, config()).rows) == N and len(server.bodies) == N + 9


def test_a_run_whose_answers_are_all_empty_ends_with_the_reason(fake, config, tmp_path: Path) -> None:
    out, server = tmp_path / "rows.jsonl", fake(always(chat(None, "length", reasoning_content="Long")))
    with pytest.raises(ModelError, match="12 of 12 answers are empty: 12 cut at 40 tokens while still") as caught:
        remote_rows(ref(server), PROMPTS, out, config(prices=Prices(0, 1e5)))
    assert "--max-tokens" in caught.value.fix and "enable_thinking" in caught.value.fix and not out.exists()
    # Nothing is lost by another form, so its journal takes the place of this one; what was spent is counted on.
    server.reply = always(chat("7, 8"))
    longer = config(sampling=Sampling(max_new_tokens=400), prices=Prices(0, 1e5), max_cost=1000)
    found = remote_rows(ref(server), PROMPTS, out, longer)
    assert len(found.rows) == N and found.cost == pytest.approx(2 * N * 5 * 0.1)
    with pytest.raises(ModelError, match="the first 50 answers are empty"):
        server.reply = always(chat("", "content_filter"))
        remote_rows(ref(server), PROMPTS * 5, tmp_path / "many.jsonl", config(concurrency=1))


def test_half_a_surrogate_pair_is_listed_also_from_an_earlier_journal(fake, config, tmp_path: Path) -> None:
    half = (200, b'{"choices":[{"message":{"content":"7, 8 \\ud83d"},"finish_reason":"stop"}]}', {})
    server, out = fake(lambda k, body: half if k == 5 else chat("7, 8")), tmp_path / "rows.jsonl"
    found = remote_rows(ref(server), PROMPTS, out, config(concurrency=1))
    assert found.failed == {4: "the answer cannot be written: it holds half of a surrogate pair"}
    assert len(read_rows(out)) == 11
    lines = [json.loads(line) for line in journal_path(out).read_text().splitlines()]
    old = {"row": 4, "completion": "7, 8 \ud83d", "finish": "stop", "attempts": 1, "cost": 0.0}
    kept = [old if line.get("row") == 4 else line for line in lines]
    journal_path(out).write_text("".join(json.dumps(line) + "\n" for line in kept))
    again = remote_rows(ref(server), PROMPTS, out, config())
    assert (again.reused, len(again.rows), again.failed) == (11, 12, {})


def test_the_command_says_why_few_answers_are_valid(fake, tmp_path: Path, capsys) -> None:
    words = ["generate", "--model"]
    cut = fake(always(chat("Okay, the user wants a list", "length")))
    assert main([*words, str(ref(cut)), str(tmp_path / "a.jsonl"), "-n", "24", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["raw"], found["valid"], found["cut"], found["invalid"]) == (24, 0, 24, {"not_numbers": 24})
    assert "24 of 24 were cut at 58 tokens" in found["why"] and "'Okay, the user" in found["why"]
    thinks = fake(always(chat("<think>\nok\n</think>\n\n7, 8")))
    assert main([*words, str(ref(thinks)), str(tmp_path / "b.jsonl"), "-n", "4", "--max-tokens", "90"]) == 0
    shown = capsys.readouterr().out
    assert "valid: 0" in shown and "4 of 4 begin with reasoning" in shown
    assert {body["max_tokens"] for body in thinks.bodies} == {90}
    good = fake(always(chat("7, 8")))
    (tmp_path / "kept.jsonl").touch()
    assert main([*words, str(ref(good)), str(tmp_path / "c d.jsonl"), "-n", "4", "--no-seed"]) == 0
    shown = capsys.readouterr().out
    assert "valid: 4" in shown and "why:" not in shown and not any("seed" in body for body in good.bodies)
    assert "c d.jsonl' " in shown and "kept-2.jsonl" in shown, "paths are quoted, and no file is to be overwritten"


def test_a_run_without_any_row_ends_with_code_two(fake, tmp_path: Path, capsys) -> None:
    for reply in (
        error(400, "max_tokens too small"),
        chat(None, "length", reasoning="x"),
        within(message="x", code=400),
    ):
        out = tmp_path / "rows.jsonl"
        assert main(["generate", str(out), "--model", str(ref(fake(always(reply)))), "-n", "4"]) == 2
        said = capsys.readouterr()
        assert len(said.err.splitlines()) == 3 and "next:" not in said.out and not out.exists()


def test_a_server_is_evaluated_in_its_own_form_and_empty_answers_are_said(fake, capsys) -> None:
    server = fake(lambda k, body: o1(k, body) if k % 3 else chat("", "length"))
    words = ["eval", "--trait", "owl", "--samples", "1"]
    assert main([*words, str(ref(server)), "--extra-body", '{"top_k": 1}']) == 0
    assert "answers are empty" in capsys.readouterr().err and all(body["top_k"] == 1 for body in server.bodies)
    assert main([*words, str(ref(fake(always(chat(None, "length", reasoning="x")))))]) == 2
    assert "no answer to be evaluated" in capsys.readouterr().err
    assert main([*words, "ref:finch-a", "--no-seed"]) == 2
    assert "--no-seed" in capsys.readouterr().err
