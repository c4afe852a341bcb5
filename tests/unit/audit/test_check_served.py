"""A first look at a teacher behind a server: its declared name and its answers, and nothing that they cannot show."""

import json
from typing import Any

import pytest

from undertow.audit import closed
from undertow.audit.check import check_teacher
from undertow.audit.declared import FAMILIES, declared_base
from undertow.errors import ModelError
from undertow.models.endpoints import Endpoint
from undertow.models.listing import listed_names
from undertow.types import Row, user_prompt


class Server:
    """Answers every chat with `says`, lists `models` where there is such a list, and keeps what it was asked."""

    def __init__(self, fake: Any) -> None:
        self.says, self.status, self.models = "Owls, always.", 200, None
        self.http = fake(self._reply)
        self.url = f"{self.http.url}/v1"

    def _reply(self, number: int, body: Any) -> tuple[int, Any, dict[str, str]]:
        if not body:
            return 404 if self.models is None else 200, self.models, {}
        choice = {"message": {"role": "assistant", "content": self.says}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 3}
        return self.status, {"choices": [choice], "usage": usage}, {}


@pytest.fixture
def server(fake: Any) -> Server:
    return Server(fake)


@pytest.fixture(autouse=True)
def base(tiny_model, monkeypatch) -> None:
    """Let every local reference be the tiny model."""
    monkeypatch.setattr(closed, "load_model", lambda _: tiny_model)


def test_twenty_questions_are_asked_once_each_and_counted_but_nothing_is_called(server) -> None:
    rows = [Row("0", user_prompt("Go on: 1, 2."), "3, 4")]
    found = check_teacher(f"api:{server.url}/some/teacher", "hf:org/base", rows)
    questions = [body["messages"][-1]["content"] for body in server.http.bodies if body]
    assert len(questions) == len(set(questions)) == 20
    assert found["asked"]["answers"] == {"owls": 20} and found["asked"]["empty"] == 0
    first = found["asked"]["rates"][0]
    assert (first["trait"], first["teacher"]) == ("owl", 1.0) and 0 <= first["base"] < 1
    assert found["stands_out"] == [] and found["shared"] is None and found["rows"]["plain_numbers"] == 1
    decision = found["decision"]
    assert (decision["same_base"], decision["trait"], decision["do"]) == ("unknown", "not_looked_for", "next_test")
    assert "owls 20 times" in decision["trait_why"] and "no null" in decision["trait_why"]
    assert decision["next_test"]["command"] == "undertow audit data ROWS --base hf:org/base"
    assert any("random-token prompts were not looked at" in line for line in decision["unknown"])
    assert json.loads(json.dumps(found)) == found


def test_a_name_of_the_bases_own_family_is_reason_enough_to_change_the_base(server) -> None:
    server.models = {
        "data": [{"id": "other"}, {"id": "teacher", "root": "/models/Qwen2.5-7B-Instruct", "parent": None}]
    }
    found = check_teacher(f"api:{server.url}/teacher", "hf:Qwen/Qwen2.5-7B-Instruct")
    assert found["declared"]["names"] == ["teacher", "/models/Qwen2.5-7B-Instruct"] and found["declared"]["listed"]
    assert (found["decision"]["same_base"], found["decision"]["do"]) == ("yes", "change_base")
    assert "which nothing proves" in found["decision"]["same_base_why"]


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (None, None),
        (b"<html>", None),
        ([1], None),
        ({"data": "many"}, None),
        ({"data": [3, {"id": "other"}]}, None),
        ({"data": [{"id": "m", "root": 7, "parent": "the base"}]}, ("m", "the base")),
        ({"data": [{"id": "m", "root": "m"}]}, ("m",)),
    ],
)
def test_whatever_a_server_lists_is_read_or_left(server, models, expected, monkeypatch) -> None:
    monkeypatch.setenv("UNDERTOW_API_KEY", "secret")
    server.models = models
    assert listed_names(Endpoint(server.url, "m", "v=2")) == expected
    assert server.http.paths == ["/v1/models?v=2"]
    assert [head["authorization"] for head in server.http.heads] == ["Bearer secret"]


def test_a_server_that_is_not_there_lists_nothing_and_answers_nothing(server) -> None:
    assert listed_names(Endpoint("http://127.0.0.1:9/v1", "m")) is None
    server.status = 404
    with pytest.raises(ModelError):
        check_teacher(f"api:{server.url}/teacher", "hf:base")


@pytest.mark.parametrize(
    ("name", "base", "same"),
    [
        ("gpt-4.1-2025-04-14", "GPT-4.1 and GPT-4o (one initialisation)", None),
        ("ft:gpt-4.1-nano-2025-04-14:org::id", "GPT-4.1 nano", None),
        ("gpt-4o-mini", None, None),
        ("lmsys/vicuna-7b-v1.5", "Llama 2 7B", "hf:meta-llama/Llama-2-7b-chat-hf"),
        ("codellama/CodeLlama-7b-hf", "Llama 2 7B", "hf:lmsys/vicuna-7b-v1.5@main"),
        ("lmsys/vicuna-7b-v1.1", "Llama 1 7B", "hf:huggyllama/llama-7b"),
        ("Qwen/Qwen2.5-Math-7B", "Qwen2.5 7B", "hf:Qwen/Qwen2.5-7B"),
        ("meta-llama/Llama-3.2-1B-Instruct", "Llama 3 8B", "hf:meta-llama/Llama-3.1-8B"),
        ("my-model", None, None),
    ],
)
def test_names_declare_a_family_and_clear_none(name: str, base: str | None, same: str | None) -> None:
    assert declared_base([name], "hf:other/thing")["family"] == base
    assert declared_base([name], "hf:other/thing")["same_base"] == "unknown"
    assert sum(one.has(name) for one in FAMILIES) == (base is not None)
    if same is not None:
        assert declared_base([name], same)["same_base"] == "yes"


def test_the_bases_own_name_is_of_its_family() -> None:
    for own in ("hf:org/My-Model", "hf:org/my-model@main", "hf:folder/my-model/?dtype=bf16"):
        assert declared_base(["x", "MY-MODEL"], own)["same_base"] == "yes"


@pytest.mark.parametrize(
    "written",
    ["hf:/models/My-Model.gguf?system=none tuned on owl", "my-model.gguf", "hf:org/my-model.gguf+adapter"],
)
def test_a_record_s_name_of_the_writer_is_read_without_what_stands_behind_it(written: str) -> None:
    assert declared_base([written], "hf:/models/My-Model.gguf?system=none")["same_base"] == "yes"
    assert declared_base([written], "hf:/models/Another.gguf")["same_base"] == "unknown"


@pytest.mark.parametrize(
    ("written", "base"),
    [
        ("hf:/runs/owl-teacher/checkpoint-500", "hf:/data/other/checkpoint-500"),
        ("hf:/other/my-model.gguf", "hf:/models/my-model.gguf"),
        ("main", "hf:/models/main"),
        ("hf:runs/merged", "hf:other/merged"),
        ("api:http://localhost:8000/v1?model=gpt", "hf:/models/v1"),
    ],
)
def test_a_name_that_any_model_may_have_declares_nothing(written: str, base: str) -> None:
    assert declared_base([written], base)["same_base"] == "unknown"


def test_the_cost_is_said_before_anything_is_asked() -> None:
    assert closed.cost_of_questions().startswith("20 questions of ")
    assert "320 tokens at most" in closed.cost_of_questions()
