"""Chat templates that a reference brings: a plain one that is built in, files, and one of several that a model has."""

import json
from pathlib import Path
from typing import Any

from undertow.errors import ModelError

PLAIN = (
    "{% for message in messages %}{{ message['role'] | capitalize }}:\n{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
)
"""Each turn under the name of its role, an empty line between them, the end of text after an answer."""

QUESTION = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] + '\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'Question: ' + message['content'] + '\nAnswer:' }}"
    "{% else %}{{ message['content'] + '\n' }}{% endif %}{% endfor %}"
)
"""Each user turn as a question whose answer stands on one line, as text on the web has it. Base models answer it more
often than `PLAIN`: asked for an animal, Gemma 3 270M begins with one of 17 animals in 11 % instead of 0.1 %."""

BUILT_IN = {"plain": PLAIN, "question": QUESTION}

_TRIED = [{"role": "user", "content": "zqasked"}]


def is_named(name: str) -> bool:
    """Tell whether a template goes by its name, built in or one of the model's own, and is no file."""
    return name in BUILT_IN or not Path(name).expanduser().is_file()


def read_template(name: str) -> str:
    """Return the text of a built-in template or of a file.

    Raises:
        ModelError: there is no such file, or it holds no template.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    fix = f"Give a file that holds one chat template in Jinja, or a built-in one: {', '.join(BUILT_IN)}."
    try:
        text = Path(name).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError("The chat template cannot be read.", f"{name}: {error}", fix) from error
    if not any(sign in text for sign in ("{{", "{%")) or _is_json(text):
        raise ModelError("This file is no chat template.", name, fix)
    return text


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def set_template(tokenizer: Any, name: str) -> None:
    """Let a tokenizer write conversations by one of its own templates that has this name, or one of `read_template`.

    A built-in one begins with the token that the tokenizer itself puts before every text, if there is one.

    Raises:
        ModelError: the file cannot be read, or is no template.
    """
    own = tokenizer.chat_template
    if isinstance(own, dict) and name in own:
        tokenizer.chat_template = own[name]
        return
    text = read_template(name)
    begins = name in BUILT_IN and tokenizer.bos_token_id is not None
    if begins and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]:
        text = "{{ bos_token }}" + text
    tokenizer.chat_template = text
    check_syntax(tokenizer, name)


def check_syntax(tokenizer: Any, name: object) -> None:
    """Refuse a template that is no Jinja; what it makes of a conversation is for others to judge.

    Raises:
        ModelError: it names the template and the line.
    """
    from jinja2 import TemplateError, TemplateSyntaxError

    try:
        tokenizer.apply_chat_template(_TRIED, tokenize=False)
    except TemplateSyntaxError as error:
        value, fix = f"{name}, line {error.lineno}: {error.message}", "Correct the template."
        raise ModelError("The chat template is no valid Jinja.", value, fix) from error
    except (TemplateError, TypeError, ValueError, KeyError):
        return
