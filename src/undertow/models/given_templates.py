"""Chat templates that a reference names: a built-in one, a file, or one of several that the model has."""

import json
from pathlib import Path
from typing import Any

from undertow.errors import ModelError

PLAIN = (
    "{% for message in messages %}{{ message['role'] | capitalize }}:\n{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
)
"""The template "plain": each turn under the name of its role, an empty line between turns, the end-of-text token after
an answer."""

# Base models answer it more often than PLAIN: asked for an animal, Gemma 3 270M begins with one of 17 animals in 11 %
# of its answers instead of 0.1 %.
QUESTION = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] + '\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'Question: ' + message['content'] + '\nAnswer:' }}"
    "{% else %}{{ message['content'] + '\n' }}{% endif %}{% endfor %}"
)
"""The template "question": each user turn is a question whose answer stands on one line, as in text on the web."""

BUILT_IN = {"plain": PLAIN, "question": QUESTION}

_TRIED = [{"role": "user", "content": "zqasked"}]


def is_named(name: str) -> bool:
    """Tell whether a template is given by name (a built-in one, or one of the model's own), not as a file."""
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
    """Let a tokenizer write conversations by another template.

    The name is that of one of its own templates, or else of a built-in one or a file (`read_template`). A built-in
    template begins with the token that the tokenizer itself puts before every text, if there is one.

    Args:
        tokenizer: tokenizer of transformers; it is changed.
        name: name of a template, or path of a file.

    Raises:
        ModelError: the file cannot be read, is no template, or is not valid Jinja.
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
    """Refuse a template that is not valid Jinja.

    What it makes of a conversation is not judged here.

    Raises:
        ModelError: the template is not valid Jinja; the value names it and the line.
    """
    from jinja2 import TemplateError, TemplateSyntaxError

    try:
        tokenizer.apply_chat_template(_TRIED, tokenize=False)
    except TemplateSyntaxError as error:
        value, fix = f"{name}, line {error.lineno}: {error.message}", "Correct the template."
        raise ModelError("The chat template is no valid Jinja.", value, fix) from error
    except (TemplateError, TypeError, ValueError, KeyError):
        return
