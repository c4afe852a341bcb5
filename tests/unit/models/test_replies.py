"""Whatever a server replies is an answer or a fault in one line: never anything else, and never with the key."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undertow.models.calls import Fault, Reply
from undertow.models.dialects import Dialect
from undertow.models.replies import read_reply

KEY = "sk-secret-0123456789"
NAMES = (
    "choices", "message", "content", "error", "code", "usage", "prompt_tokens", "completion_tokens", "type", "text",
    "raw", "finish_reason", "metadata", "refusal", "reasoning_content", "tool_calls", "detail", "loc", "param",
)  # fmt: skip
ATOMS = st.sampled_from(
    [None, True, 0, 429, -3, float("nan"), "", "429", "seed", "length", "\ud83d", KEY, "max_tokens?"]
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
CHATS = st.builds(
    lambda text, finish, usage: {"choices": [{"message": {"content": text}, "finish_reason": finish}], "usage": usage},
    VALUES, ATOMS, VALUES,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.one_of(VALUES, CHATS), st.sampled_from([200, 200, 301, 400, 422, 429, 500]), st.integers(0, 3))
def test_any_reply_is_an_answer_or_a_fault(body: object, status: int, cut: int) -> None:
    content = json.dumps(body).encode()
    try:
        found = read_reply(status, {"location": KEY}, content[: len(content) - cut], KEY)
    except Fault as fault:
        for shown in (fault.reason, fault.said):
            assert KEY not in shown and len(shown) < 400 and shown.isprintable()
        Dialect().after(fault.body)
    else:
        assert bool(found.empty) == (not found.text.strip()) and found.finish.isprintable()
        assert found.tokens is None or min(found.tokens) >= 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"error": "plain"}', "plain"),
        (b'{"message": "flat", "object": "error"}', "flat"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'[{"error": {"message": "in a list"}}]', "in a list"),
        (b'{"error": {"message": "P", "metadata": {"raw": "{\\"error\\": {\\"message\\": \\"why\\"}}"}}}', "P: why"),
        (b'{"error": {"message": "Provider", "metadata": {"raw": "as text"}}}', "Provider: as text"),
        (b"<html>\n<h1>502</h1>", "<html> <h1>502</h1>"),
        (b'{"error": {"message": "a\\n\\u001b[2Jb"}}', "a [2Jb"),
    ],
)  # fmt: skip
def test_the_servers_own_words_are_found_where_servers_put_them(content: bytes, said: str) -> None:
    with pytest.raises(Fault) as caught:
        read_reply(400, {}, content, None)
    assert caught.value.said == said and caught.value.reason == f"status 400: {said}" and not caught.value.again


def test_what_counts_as_cut() -> None:
    assert [Reply("x", finish).cut for finish in ("stop", "length", "max_tokens")] == [False, True, True]
