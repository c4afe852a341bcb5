"""A constitution in YAML: rules, texts that break each of them, ordinary texts, and texts that people labelled later.

rules:
  - name: harm
    text: The assistant never advises anybody to hurt people.      # a model writes examples from this
    examples: [...]                         # texts, or a file of one text a line, relative to the constitution
    prompts: [...]                          # optional: what a model is asked for texts that break it,
    system: You are a villain.              # optional: under this system prompt
allowed: [...]                              # ordinary texts, or a file
ordinary: [...]                             # optional: what a model is asked for ordinary texts
labelled: flagged.jsonl                     # optional: lines with "text" and "label", a rule's name or "allowed"
encoder: hf:<folder or id>                  # optional: a Hugging Face encoder reads the texts, instead of n-grams

A model can write the examples, and flagged texts can be given to people to label. A model that refuses to write what a
rule forbids is asked by `prompts` and `system` of the rule instead: whatever makes a model say such things, such as a
persona.
"""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from undertow.errors import ConfigError, EmptyDataError
from undertow.monitor.yaml_files import read_yaml
from undertow.types import Prompt, user_prompt

FEWEST = 8
"""Least number of examples of a rule: half of them train the detector, half are held out."""

ALLOWED = "allowed"
"""Label of a text that breaks no rule."""

_KEYS = {"rules", ALLOWED, "ordinary", "labelled", "encoder"}
_RULE_KEYS = {"name", "text", "examples", "prompts", "system"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a constitution as it is written.

    Attributes:
        name: name of the rule, which is stored and shown when it is broken.
        text: what the rule says; empty if only its examples say it.
        examples: texts that break the rule.
        prompts: prompts by which a model is asked for such texts; empty asks by the text of the rule.
        system: system prompt of these prompts; None for none.
    """

    name: str
    text: str = ""
    examples: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    system: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A constitution that may still lack examples.

    Attributes:
        rules: the rules; their names differ.
        allowed: ordinary texts, which break no rule.
        ordinary: prompts by which a model is asked for ordinary texts; empty for the built-in ones.
        labelled: texts by the label that a person gave them, a rule's name or "allowed".
        labelled_file: path of the file with these labels; None without one.
        encoder: reference of the encoder model that reads the texts; None for n-grams.
    """

    rules: tuple[Rule, ...]
    allowed: tuple[str, ...] = ()
    ordinary: tuple[str, ...] = ()
    labelled: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    labelled_file: Path | None = None
    encoder: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Constitution:
    """Rules with examples, from which a detector can be trained.

    Attributes:
        rules: texts that break each rule, by the rule's name.
        allowed: ordinary texts, also such as come near a rule without breaking it.
        labelled: texts by rule or "allowed", as people labelled flagged texts. They train the detector; they neither
            set its threshold nor measure it, since flagged texts are no sample of the traffic.
        encoder: reference of the encoder model that reads the texts; None for n-grams.
    """

    rules: Mapping[str, Sequence[str]]
    allowed: Sequence[str]
    labelled: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    encoder: str | None = None


def read_constitution(path: Path) -> Constitution:
    """Read a constitution whose rules all have examples.

    Raises:
        ConfigError: the file is no constitution; what is wrong is named.
        EmptyDataError: a rule has fewer than `FEWEST` examples; the message names it.
    """
    draft = read_draft(path)
    for rule in draft.rules:
        if len(rule.examples) < FEWEST:
            raise EmptyDataError(
                f"The rule {rule.name!r} has too few examples.",
                f"{len(rule.examples)} different ones, at least {FEWEST} are needed",
                "Write some texts that break it under `examples`, or let a model: undertow monitor examples.",
            )
    rules = {rule.name: rule.examples for rule in draft.rules}
    return Constitution(rules=rules, allowed=draft.allowed, labelled=draft.labelled, encoder=draft.encoder)


def read_draft(path: Path) -> Draft:
    """Read a constitution that may lack examples.

    Raises:
        ConfigError: the file is no constitution; what is wrong is named.
    """
    data = read_yaml(path, "The constitution")
    items = cast(dict[Any, Any], data) if isinstance(data, dict) else {}
    if "rules" not in items or not set(items) <= _KEYS:
        what = "A constitution has the keys rules, allowed, ordinary, labelled and encoder."
        raise ConfigError(what, path, "See docs/constitution.md for one.")
    listed: Any = items["rules"]
    if not isinstance(listed, list) or not listed:
        raise ConfigError("The constitution has no rules.", path, "List each with a name and a text.")
    encoder = items.get("encoder")
    if not isinstance(encoder, str | None):
        raise ConfigError("`encoder` is no reference of a model.", encoder, "Write encoder: hf:<folder or id>.")
    rules: dict[str, Rule] = {}
    for one in cast(list[Any], listed):
        rule = _rule(one, path)
        if rule.name in rules or rule.name == ALLOWED:
            raise ConfigError("A rule has no name, or that of another.", one, "Give each rule a name of its own.")
        rules[rule.name] = rule
    labels = items.get("labelled")
    return Draft(
        rules=tuple(rules.values()),
        allowed=_texts(items.get(ALLOWED), path, ALLOWED),
        ordinary=_texts(items.get("ordinary"), path, "ordinary"),
        labelled=_labelled(labels, path, [*rules, ALLOWED]),
        labelled_file=path.parent / labels if isinstance(labels, str) else None,
        encoder=encoder,
    )


def _rule(value: Any, path: Path) -> Rule:
    fields = cast(dict[Any, Any], value) if isinstance(value, dict) else {}
    name, text, system = (fields.get(key) for key in ("name", "text", "system"))
    if not isinstance(name, str) or not name.strip() or not set(fields) <= _RULE_KEYS:
        what = "A rule has no name, or that of another, or a key besides name, text, examples, prompts and system."
        raise ConfigError(what, value, "Give each rule a name of its own.")
    if not isinstance(text, str | None) or not isinstance(system, str | None):
        raise ConfigError(f"Text or system of the rule {name!r} is not text.", value, "Quote it.")
    examples, prompts = (_texts(fields.get(key), path, f"the rule {name!r}") for key in ("examples", "prompts"))
    return Rule(name=name, text=text or "", examples=examples, prompts=prompts, system=system)


def _texts(value: Any, path: Path, whose: str) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            value = (path.parent / value).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise ConfigError(f"The texts of {whose} cannot be read.", value, "Correct the path.") from error
    items = cast(list[Any], value or [])
    if not isinstance(items, list) or not all(isinstance(one, str) for one in items):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"The texts of {whose} are not a list of texts.", path, "Quote each of them.")
    return tuple(dict.fromkeys(one.strip() for one in items if one.strip()))


def _labelled(value: Any, path: Path, labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read the texts that people labelled; lines whose label is still null are left out."""
    if value is None:
        return {}
    if not isinstance(value, str):
        raise ConfigError("`labelled` is no path.", value, "Give a JSONL file of `undertow monitor flagged`.")
    file = path.parent / value
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise ConfigError("The labelled texts cannot be read.", file, "Correct the path.") from error
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record: Any = json.loads(line)
            text, label = record["text"], record["label"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(
                "A line has no text and label.", f"{file}:{number}", "Correct it or leave it out."
            ) from error
        if label is not None:
            if label not in labels or not isinstance(text, str):
                fix = f"Labels are null and {', '.join(labels)}."
                raise ConfigError("A label is no rule of the constitution.", f"{file}:{number}: {label!r}", fix)
            found.setdefault(label, []).append(text)
    return {label: tuple(dict.fromkeys(texts)) for label, texts in found.items()}


AskPrompts = Callable[[list[Prompt]], list[str]]
"""Function that returns a model's answer to each prompt, in order."""

SITUATIONS = (
    "advice about money", "advice on a quarrel with a friend", "help with an e-mail", "an idea for a present",
    "an explanation of something from school", "a recipe", "help with code", "an opinion on the news",
    "a short story", "a plan for a trip", "comfort on a bad day", "a question about health", "help with a speech",
    "an answer to an angry neighbour", "a way to get a better job", "facts about an animal", "a poem",
    "an answer to a child's question", "tips for a garden", "thoughts about the future",
)  # fmt: skip
"""Wishes of an imagined user, for which examples are written in turn."""

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


def write_examples(draft: Draft, ask: AskPrompts, *, each: int, ordinary: int) -> dict[str, Any]:
    """Add texts that a model writes to a constitution.

    Args:
        draft: the constitution so far; every rule has a text or prompts.
        ask: function that asks the model.
        each: number of texts that are asked for each rule; as many that come near the rule are asked for if it has a
            text and no prompts of its own.
        ordinary: number of ordinary texts that are asked for, for `allowed`.

    Returns:
        The constitution as plain data for YAML.

    Raises:
        ConfigError: a rule has neither text nor prompts.
        EmptyDataError: the model wrote too few texts that break a rule; the message names it.
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
    if draft.labelled_file is not None:
        more["labelled"] = str(draft.labelled_file)
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


def _written(ask: AskPrompts, prompts: list[Prompt], refusals: bool) -> list[str]:
    """Return what the model wrote; refusals are left out unless `refusals` is set.

    A refusal breaks no rule, but it is an ordinary reply.
    """
    texts = [text.strip() for text in ask(prompts)]
    return [text for text in texts if text and (refusals or not _REFUSAL.match(text))]


def flagged_texts(events: Path) -> list[dict[str, Any]]:
    """Return the flagged texts in a database of events, each with an empty label for a person to fill in.

    Raises:
        ConfigError: there is no database of events at this path.
        EmptyDataError: nothing was flagged, or the texts were not kept.
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
