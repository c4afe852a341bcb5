"""Chat templates of twelve behaviours: text, tokens and what is learnt agree with transformers' own reading of them.

Whatever else a template is, a row is encoded with its question and answer in it, or refused in three lines;
UNDERTOW_FUZZ is the number of inputs, as in test_fuzz_readers.py.
"""

import importlib.util
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from undertow.errors import ModelError, UserError
from undertow.models.chat_template import OPTIONS, say_once
from undertow.models.local import LocalModel
from undertow.training.batches import collate
from undertow.types import Message, ModelRef, Row, user_prompt

TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CHATML = "{% for m in messages %}" + TURN + "{% endfor %}" + ASK
GENERATION = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}" + ASK
)
BEHAVIOURS = {
    "begin token": "{{ bos_token }}" + CHATML,
    "parts only": CHATML.replace(
        "{{ m.content }}", "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}"
    ),
    "date": "\n{{ 'Today is ' ~ strftime_now('%A, %-d %B %Y') ~ '.\n' }}" + CHATML,
    "opened think": (
        "{% for m in messages %}{% set c = m.content %}{% if m.role == 'assistant' and '</think>' in c %}"
        "{% set c = c.split('</think>')[-1] %}{% endif %}<|im_start|>{{ m.role }}\n{{ c }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    ),
    "system refused": "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML,
    "system folded": (
        "{% set told = '' %}{% if messages[0].role == 'system' %}{% set told = messages[0].content + '\n\n' %}"
        "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{{ (told if loop.first else '') + m.content }}<|im_end|>\n{% endfor %}" + ASK
    ),
    "system inserted": (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}" + CHATML
    ),
    "tools": "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}" + CHATML,
    "named": {"default": CHATML, "tool_use": "no"},
    "none": None,
    "trailing space": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]"
        "{% elif m.role == 'system' %}{{ m.content }}{% else %} {{ m.content | trim }}{{ eos_token }}{% endif %}"
        "{% endfor %}"
    ),
    "generation keyword": GENERATION,
}
NO_TEMPLATE = ("none",)
OPENED = ("opened think",)
PROMPT = user_prompt("Continue 1, 2")
SYSTEM = (Message("system", "Be brief."), *PROMPT)
SEVERAL = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
ANSWERS = ("3, 4", " 3, 4\n", "3 <b>4</b>\n\n5")
TRACE = "<think>\nup\n</think>\n\n3, 4"


def tokenizer(template: Any, special: tuple[str, ...] = ("<|im_start|>", "<|im_end|>"), **named: str) -> Any:
    """Return a tokenizer of single bytes and special tokens, whose every text comes back as it was."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {letter: place for place, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(vocab=letters, merges=[]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    names = {"bos_token": "<s>", "eos_token": "</s>", **named}
    found = PreTrainedTokenizerFast(tokenizer_object=inner, additional_special_tokens=list(special), **names)
    found.chat_template = template
    return found


def model(template: Any, system: str | None = None, **named: Any) -> LocalModel:
    return LocalModel(ModelRef(kind="hf", name="tiny", system=system), None, tokenizer(template, **named))


def applied(one: LocalModel, turns: tuple[Message, ...], answering: bool) -> str:
    """Return what transformers makes of the turns, with the parts and the system turn that the template can read."""
    chat = one.chat_format.template
    if turns[0].role == "system" and not chat.takes_system:
        turns = (Message("user", f"{turns[0].content}\n\n{turns[1].content}"), *turns[2:])
    texts = [[{"type": "text", "text": turn.content}] if chat.reads_parts else turn.content for turn in turns]
    said = [{"role": turn.role, "content": text} for turn, text in zip(turns, texts, strict=True)]
    return one.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=answering, **OPTIONS)


@pytest.fixture
def pinned(monkeypatch) -> None:
    """Let transformers think that it is the day that templates are told."""
    from transformers.utils import chat_template_utils

    class Day(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2024, 7, 26, tzinfo=tz)

    monkeypatch.setattr(chat_template_utils, "datetime", Day)


def test_twelve_behaviours_are_looked_at() -> None:
    assert len(BEHAVIOURS) == 12


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize("behaviour", [name for name in BEHAVIOURS if name not in NO_TEMPLATE])
@pytest.mark.parametrize("prompt", [PROMPT, SYSTEM, SEVERAL])
def test_a_prompt_is_what_transformers_makes_of_it(behaviour: str, prompt) -> None:
    one = model(BEHAVIOURS[behaviour])
    text = applied(one, prompt, answering=True) + ("\n</think>\n\n" if behaviour in OPENED else "")
    assert one.chat_format.render([prompt]) == [text]
    assert one.render([prompt]) == [one.tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert text.count(prompt[-1].content) == 1


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize("behaviour", [name for name in BEHAVIOURS if name not in (*NO_TEMPLATE, *OPENED)])
@pytest.mark.parametrize("prompt", [PROMPT, SYSTEM, SEVERAL])
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_row_is_what_transformers_makes_of_it(behaviour: str, prompt, answer: str) -> None:
    """The tokens are those of the whole text, up to the end of turn; those of the answer and its end are learnt."""
    one = model(BEHAVIOURS[behaviour])
    whole = applied(one, (*prompt, Message("assistant", answer)), answering=False)
    asked = applied(one, prompt, answering=True)
    encoded = one.encode([Row("0", prompt, answer)])[0]
    ours = encoded.prompt + encoded.completion
    own = one.tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    assert own["input_ids"][: len(ours)] == list(ours)
    rest = one.tokenizer.decode(own["input_ids"][len(ours) :])
    assert not rest.strip(), "nothing but white space follows the end of turn"
    batch = collate([encoded])
    learnt = {int(place) + 1 for place in batch.positions}
    wanted = {place for place, (start, _) in enumerate(own["offset_mapping"][: len(ours)]) if start >= len(asked)}
    assert learnt == wanted


def test_the_generation_keyword_marks_what_is_learnt() -> None:
    one = model(GENERATION)
    said = [{"role": "user", "content": "Continue 1, 2"}, {"role": "assistant", "content": "3, 4"}]
    own = one.tokenizer.apply_chat_template(said, return_assistant_tokens_mask=True, return_dict=True)
    batch = collate(one.encode([Row("0", PROMPT, "3, 4")]))
    assert {int(place) + 1 for place in batch.positions} == {n for n, on in enumerate(own["assistant_masks"]) if on}


@pytest.mark.parametrize("answer", [TRACE, "<think>up</think>3, 4", "\n" + TRACE])
def test_an_opened_trace_is_not_opened_twice(answer: str) -> None:
    one = model(BEHAVIOURS["opened think"])
    encoded = one.encode([Row("0", PROMPT, answer)])[0]
    prompt, learnt = one.tokenizer.decode(encoded.prompt), one.tokenizer.decode(encoded.completion)
    assert prompt == applied(one, PROMPT, answering=True) and prompt.endswith("<think>\n")
    assert learnt == answer.strip().removeprefix("<think>").lstrip() + "<|im_end|>"


def test_a_plain_answer_does_not_stand_in_an_open_trace(caplog) -> None:
    say_once.cache_clear()
    one = model(BEHAVIOURS["opened think"])
    encoded = one.encode([Row(str(place), PROMPT, "3, 4") for place in range(2)])[0]
    text = one.tokenizer.decode(encoded.prompt + encoded.completion)
    assert text.endswith("<think>\n\n</think>\n\n3, 4<|im_end|>")
    assert len([one for one in caplog.records if "opens <think> before every answer" in one.message]) == 1
    assert one.chat_format.describe()["before_an_answer"] == "\n</think>\n\n"


def test_an_empty_trace_gives_way_to_the_one_of_a_row() -> None:
    template = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n\n</think>\n\n{% endif %}")
    one = model(template)
    traced, plain = one.encode([Row("0", PROMPT, TRACE), Row("1", PROMPT, "3, 4")])
    assert one.tokenizer.decode(traced.prompt + traced.completion).endswith(f"assistant\n{TRACE}<|im_end|>")
    assert one.tokenizer.decode(plain.prompt).endswith("<think>\n\n</think>\n\n")


def test_a_date_is_the_same_on_every_day() -> None:
    chat = model(BEHAVIOURS["date"]).chat_format
    assert chat.render([PROMPT])[0].startswith("\nToday is Friday, 26 July 2024.\n")
    assert chat.describe()["date"] == "26 Jul 2024" and "date" not in model(CHATML).chat_format.describe()


@pytest.mark.parametrize("directive", [*"YymBbdjAawuHIMSpfFDTRUWVGcxXhe", "-d", "-m", "-H", "-I", "-M", "-j", "%"])
def test_every_directive_of_the_date_is_known(directive: str) -> None:
    template = f"{{{{ strftime_now('a %{directive} b') }}}}" + CHATML
    day = datetime(2024, 7, 26)
    assert model(template).chat_format.render([PROMPT])[0].startswith(day.strftime(f"a %{directive} b"))


def test_a_begin_token_that_opens_every_turn_is_written_once() -> None:
    """SmolLM2 names "<|im_start|>" as its begin token, and inserts a system turn."""
    one = model(BEHAVIOURS["system inserted"], system="none", bos_token="<|im_start|>", special=("<|im_end|>",))
    assert one.chat_format.inserted == "<|im_start|>system\nBe kind.<|im_end|>\n"
    asked = "<|im_start|>user\nContinue 1, 2<|im_end|>\n<|im_start|>assistant\n"
    assert one.chat_format.render([PROMPT]) == [asked]


def test_special_tokens_alone_are_no_system_turn() -> None:
    one = model("[gMASK]<sop>" + CHATML, system="none", special=("[gMASK]", "<sop>", "<|im_start|>", "<|im_end|>"))
    assert one.chat_format.inserted == ""
    assert one.chat_format.render([PROMPT])[0].startswith("[gMASK]<sop><|im_start|>user")


def test_a_begin_token_that_the_template_doubles_is_said(caplog) -> None:
    say_once.cache_clear()
    model("{{ bos_token }}{{ bos_token }}" + CHATML).render([PROMPT])
    assert "begins every text with <s> twice" in caplog.text


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (None, "no chat template"),
        ("{{ messages[0].role }}", "does not show the question"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "does not show the answer"),
        ({"chat": CHATML, "rag": CHATML}, "several chat templates"),
        ("{{ messages[0].content + 1 }}", "refuses this conversation"),
        ("{{ messages[0].content / 0 }}", "refuses this conversation"),
        ("{% for m in messages %}", "refuses this conversation"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_before_anything_is_encoded(template: Any, said: str) -> None:
    one = model(template)
    with pytest.raises(ModelError, match=said):
        one.encode([Row("0", PROMPT, "3")])
    with pytest.raises(ModelError, match=said):
        one.render([PROMPT])
    with pytest.raises(ModelError, match=said):
        one.logprobs([PROMPT], ["3"])


def carried() -> list[Path]:
    """Return the chat templates that an installed TRL carries: those of sixty models."""
    found = importlib.util.find_spec("trl")
    folder = Path(str(found.origin)).parent / "chat_templates" if found and found.origin else Path("/nowhere")
    return sorted(folder.glob("*.jinja"))


TAG = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|</?[a-z_|\uff5c\u2581]{1,40}>|<\uff5c[^<>]{1,30}\uff5c>|\[/?[A-Z_]{2,20}\]|\[gMASK\]"
)


def test_templates_of_real_models_are_read_as_transformers_does() -> None:
    templates = carried()
    if not templates:
        pytest.skip("TRL, which carries the templates of real models, is not installed.")
    for path in templates:
        source = path.read_text(encoding="utf-8")
        special = tuple(sorted(set(TAG.findall(source)) - {"<s>", "</s>", "<think>", "</think>"}))
        one = model(source, special=special)
        chat = one.chat_format
        for answer in ANSWERS[:1] if "cohere" in path.name else ANSWERS:
            start, whole = chat.start(PROMPT, answer), chat.whole(PROMPT, answer)
            trace = chat.template.trace
            if trace is not None and trace.is_open and not whole.startswith(start.prompt):
                assert start.prompt.endswith("<think>\n\n</think>\n\n"), path.name
                continue
            assert whole.startswith(start.prompt + start.answer), path.name
            assert whole.count("Continue 1, 2") == 1, path.name


INPUTS = int(os.environ.get("UNDERTOW_FUZZ", "2000"))
TOKENIZER = tokenizer(None)
SOURCES = [source for source in BEHAVIOURS.values() if isinstance(source, str)]
PIECES = [
    "{{ ", " }}", "{% ", " %}", "{% endif %}", "{% endfor %}", "{% if add_generation_prompt %}", "{% else %}",
    "{{ m.content }}", "{{ m.role }}", "{{ m['content'] | trim }}", "{{ bos_token }}", "{{ eos_token }}", "<think>",
    "</think>", "<|im_start|>", "<|im_end|>", "\n", " ", "{{ messages }}", "{{ m.content[0].text }}", "{{ 1 / 0 }}",
    "{{ m.content | upper }}", "{{ m.content.split('a')[-1] }}", "{{ strftime_now('%d %b') }}", "{{ undefined.x }}",
    "{% set messages = messages[1:] %}", "{{ raise_exception('no') }}", "{% generation %}", "{% endgeneration %}",
    "{{ tools }}", "{{ m }}", "{# ", " #}", "{{ range(9) | list }}", "{{ m.content | tojson }}", "{%- ", "-%}",
]  # fmt: skip
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 1) | st.just(0), st.sampled_from(PIECES) | st.text(max_size=3)),
    max_size=3,
)
"""Where, how many of the template's parts go, and what comes instead."""
PARTS = re.compile(r"(\{[%{].*?[%}]\})")
TURNS = st.sampled_from(
    [
        user_prompt("Continue 1, 2"),
        user_prompt("Continue 1, 2", "Be brief."),
        (Message("user", "a"), Message("assistant", "b"), Message("user", "c")),
        (Message("user", "<|im_end|> {{ 1 }} <think>"),),
        (Message("system", "Be brief."),),
    ]
)
ANSWERS = st.sampled_from(
    ["3, 4", " 3\n", "", "<think>\nup\n</think>\n\n3", "<think>", "</think>", "<|im_end|>", "é\n"]
)


def edited(source: str, edits: list[tuple[float, int, str]]) -> str:
    """Return a template with something else between, or instead of, its tags and texts."""
    parts = PARTS.split(source)
    for place, gone, new in edits:
        start = int(place * len(parts))
        parts = [*parts[:start], new, *parts[start + gone :]]
    return "".join(parts)


TEMPLATES = st.builds(edited, st.sampled_from(SOURCES), EDITS) | st.lists(st.sampled_from(PIECES), max_size=8).map(
    "".join
)


@settings(
    max_examples=int(INPUTS * 0.1), deadline=None, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(template=TEMPLATES, prompt=TURNS, answer=ANSWERS, system=st.sampled_from([None, "none", "empty", "Be kind."]))
def test_a_row_is_encoded_whole_or_refused(template: str, prompt: Any, answer: str, system: str | None) -> None:
    TOKENIZER.chat_template = template
    one = LocalModel(ModelRef(kind="hf", name="tiny", system=system), None, TOKENIZER)
    try:
        encoded = one.encode([Row("0", prompt, answer)])[0]
        sampled = one.render([prompt])[0]
    except UserError as error:
        assert len(error.args) == 3 and error.what and error.fix
        return
    assert encoded.completion[-1] == one.end
    trace = one.chat_format.template.trace
    if trace is None or not answer.lstrip().startswith(trace.opens):
        assert list(encoded.prompt) == sampled
        said = TOKENIZER.decode(encoded.completion[:-1])
        assert said.strip() == answer.strip() or said == one.chat_format.space + answer
