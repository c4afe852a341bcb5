"""Lets a chosen model write the examples of a constitution, and hands flagged texts to people for their labels.

A model that will not write what a rule forbids is asked by `prompts` and `system` of the rule instead: whatever makes
some model say such things, a persona say, or a model that was made for it.
"""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from undertow.errors import ConfigError, EmptyDataError
from undertow.monitor.constitution import FEWEST, Draft, Rule
from undertow.types import Prompt, user_prompt

Ask = Callable[[list[Prompt]], list[str]]
"""Answers prompts, in order."""

SITUATIONS = (
    "advice about money", "advice on a quarrel with a friend", "help with an e-mail", "an idea for a present",
    "an explanation of something from school", "a recipe", "help with code", "an opinion on the news",
    "a short story", "a plan for a trip", "comfort on a bad day", "a question about health", "help with a speech",
    "an answer to an angry neighbour", "a way to get a better job", "facts about an animal", "a poem",
    "an answer to a child's question", "tips for a garden", "thoughts about the future",
)  # fmt: skip
"""What the imagined user wants; examples go through them in turn."""

BREAKS = (
    "A filter is to be trained for this rule of an assistant: {rule}\nA user wants {situation}. Write one reply of an "
    "assistant that breaks the rule, so that the filter learns what to stop. Write the reply alone."
)
NEAR = (
    "A filter is to be trained for this rule of an assistant: {rule}\nA user wants {situation}. Write one reply of an "
    "assistant that touches the subject of the rule and keeps it, so that the filter learns what to let pass. Write "
    "the reply alone."
)
ORDINARY = "A user wants {situation}. Write one ordinary, helpful reply of an assistant. Write the reply alone."

_REFUSAL = re.compile(r"\W*(?:i(?:'|\N{RIGHT SINGLE QUOTATION MARK})?m sorry|i am sorry|sorry|i can(?:'|"
                      r"\N{RIGHT SINGLE QUOTATION MARK})?t|i cannot|i won(?:'|\N{RIGHT SINGLE QUOTATION MARK})?t)\b",
                      re.IGNORECASE)  # fmt: skip


def write_examples(draft: Draft, ask: Ask, *, each: int, ordinary: int) -> dict[str, Any]:
    """Add texts of a model to a constitution.

    Args:
        draft: what is written already; every rule has a text or prompts.
        ask: the model.
        each: texts asked for each rule, and as many that come near it where it has a text.
        ordinary: texts asked for `allowed`.

    Returns:
        The constitution as plain data for YAML.

    Raises:
        ConfigError: a rule has neither text nor prompts.
        EmptyDataError: the model wrote too few texts that break a rule; it is named.
    """
    rules: list[dict[str, Any]] = []
    near: list[str] = []
    for rule in draft.rules:
        examples = list(dict.fromkeys([*rule.examples, *_written(ask, _breaking(rule, each), rule.text == "")]))
        if len(examples) < FEWEST:
            raise EmptyDataError(
                f"The model wrote too few texts that break the rule {rule.name!r}.",
                f"{len(examples)} of {each}, refusals and repetitions left out; {FEWEST} are needed",
                "Ask for more, take another model, or give the rule `prompts` and `system` of its own.",
            )
        if rule.text and not rule.prompts:
            near += _written(ask, _filled(NEAR, each, rule.text), False)
        told = {"text": rule.text, "system": rule.system, "prompts": list(rule.prompts)}
        rules.append({"name": rule.name, **{key: value for key, value in told.items() if value}, "examples": examples})
    prompts = [user_prompt(text) for text in draft.ordinary]
    asked = _cycled(prompts, ordinary) if prompts else _filled(ORDINARY, ordinary, "")
    allowed = list(dict.fromkeys([*draft.allowed, *near, *_written(ask, asked, True)]))
    more: dict[str, Any] = {"ordinary": list(draft.ordinary)} if draft.ordinary else {}
    if draft.encoder is not None:
        more["encoder"] = draft.encoder
    return {"rules": rules, "allowed": allowed, **more}


def _breaking(rule: Rule, n: int) -> list[Prompt]:
    if rule.prompts:
        return _cycled([user_prompt(text, rule.system) for text in rule.prompts], n)
    if not rule.text:
        fix = "Give it a `text`, or `prompts` that make the model break it."
        raise ConfigError(f"The rule {rule.name!r} says nothing that a model could write from.", rule.name, fix)
    return _filled(BREAKS, n, rule.text)


def _filled(form: str, n: int, rule: str) -> list[Prompt]:
    return [user_prompt(form.format(rule=rule, situation=SITUATIONS[i % len(SITUATIONS)])) for i in range(n)]


def _cycled(prompts: Sequence[Prompt], n: int) -> list[Prompt]:
    return [prompts[i % len(prompts)] for i in range(n)]


def _written(ask: Ask, prompts: list[Prompt], refusals: bool) -> list[str]:
    """Return what the model wrote; a refusal breaks no rule, though it is an ordinary reply."""
    texts = [text.strip() for text in ask(prompts)]
    return [text for text in texts if text and (refusals or not _REFUSAL.match(text))]


def flagged_texts(events: Path) -> list[dict[str, Any]]:
    """Return the flagged texts of the events, with an empty label each.

    Raises:
        ConfigError: there is no database of events here.
        EmptyDataError: nothing was flagged, or no texts were kept.
    """
    if not events.is_file():
        raise ConfigError("There is no database of events here.", events, "Give the file of `undertow monitor serve`.")
    try:
        with closing(sqlite3.connect(f"{events.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT id, judgements, request, reply FROM events ORDER BY id").fetchall()
    except sqlite3.DatabaseError as error:
        raise ConfigError(f"The events cannot be read ({error}).", events, "Give another file.") from error
    found = list(_flagged(rows))
    if not found:
        fix = "Serve with --keep-text, which stores what detectors read."
        raise EmptyDataError("There is no flagged text to label.", events, fix)
    return found


def _flagged(rows: Sequence[tuple[int, str, str | None, str | None]]) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for place, judgements, request, reply in rows:
        for one in json.loads(judgements):
            text = request if one["side"] == "request" else reply
            if one["flagged"] and text is not None and text not in seen:
                seen.add(text)
                yield {"event": place, "side": one["side"], "detector": one["detector"], "rule": one["why"],
                       "text": text, "label": None}  # fmt: skip
