"""What `undertow generate` is asked for: whose prompts, how they are answered, and how the answers are judged."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.cli.options import free_name, quoted
from undertow.data.rows import read_questions
from undertow.data.writer_record import WriterRecord
from undertow.domains.base import AbstractDomain
from undertow.domains.numbers import HELD
from undertow.errors import ConfigError, RowsError
from undertow.seeds import derive
from undertow.traits import Trait
from undertow.types import Prompt, Row, Sampling, user_prompt

if TYPE_CHECKING:
    from undertow.models.tokens import ChatTokens

ROWS = 1000
"""How many prompts of a domain are answered by default."""

TOKENS = 256
"""Longest answer to the prompts of a file in tokens, by default."""

NO_NEXT = "none for these rows: the filter would keep none of them"
"""What stands in place of the next command after an order without a valid row."""

FIRST_SHOWN = 80
"""How many characters of the first invalid answer are shown when few answers are valid."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """The rows that are asked for, as options of the command.

    Attributes:
        out: name of the row file that is written.
        domain: the domain whose prompts are answered and whose rules say which answers are valid. None with the prompts
            of a file and no domain.
        asked: id and turns of each prompt of a file. None takes the domain's prompts.
        source: name of the file with prompts. None if there is none.
        trait: the trait that the writer is given. None for none.
        prompted: whether the trait is given by a system prompt instead of by fine-tuning.
        n: how many prompts are answered; those of a file are drawn at random. None takes every one of a file, or `ROWS`
            of a domain.
        seed: random seed of everything that is drawn.
        answers: how many answers each prompt of a file gets.
        max_tokens: longest answer in tokens. None takes the writer's limit, else the domain's, else `TOKENS`.
        writer: description of the writer, of which system prompt and sampling are used.
        writer_file: path of the file that describes the writer. None if none is given.
        teacher: folder in which the teacher that is made is saved. None does not save it.
        limit: most tokens of an answer in the domain, for the tokenizer of the model that writes. None takes the
            domain's own.
        domain_given: the domain as the command gave it, with its settings; the next command repeats it.
    """

    out: Path
    domain: AbstractDomain | None
    asked: tuple[tuple[str, Prompt], ...] | None = None
    source: str | None = None
    trait: Trait | None
    prompted: bool
    n: int | None
    seed: int
    answers: int = 1
    max_tokens: int | None = None
    writer: WriterRecord = field(default_factory=WriterRecord)
    writer_file: Path | None = None
    teacher: Path | None = None
    limit: int | None = None
    domain_given: str | None = None

    def by(self, *words: "ChatTokens | None") -> "Order":
        """Return the order with the longest answers that models with these tokenizers may need; None for a server."""
        if self.domain is None:
            return self
        from undertow.models.answer_limits import answer_limit

        return replace(self, limit=max(answer_limit(self.domain, one) for one in words))

    @property
    def prompts(self) -> Sequence[str]:
        """Texts of the domain's prompts; empty without a domain."""
        if self.domain is None:
            return ()
        return self.domain.prompts(self.n or ROWS, derive(self.seed, "prompts"))

    @cached_property
    def questions(self) -> tuple[tuple[str, Prompt], ...]:
        """Id and turns of every question. Several answers to one prompt have the ids ID/1, ID/2 and so on."""
        if self.asked is None:
            return tuple((f"{place:06d}", user_prompt(text)) for place, text in enumerate(self.prompts))
        chosen = self.asked if self.n is None else _drawn(self.asked, self.n, derive(self.seed, "asked"))
        if self.answers == 1:
            return chosen
        return tuple((f"{name}/{k}", prompt) for name, prompt in chosen for k in range(1, self.answers + 1))

    @property
    def sampling(self) -> Sampling:
        """How answers are drawn. An option counts before the writer's description, and that before the default."""
        writer, own = self.writer, TOKENS if self.domain is None else self.limit or self.domain.max_new_tokens
        return Sampling(
            temperature=1.0 if writer.temperature is None else writer.temperature,
            top_p=1.0 if writer.top_p is None else writer.top_p,
            max_new_tokens=self.max_tokens or writer.max_tokens or own,
            form=(None if self.domain is None else self.domain.form) or writer.form,
        )

    @property
    def row_seed(self) -> int:
        """Random seed of the answers. Those to the prompts of a file share no random numbers with that file's rows."""
        return derive(self.seed, "rows" if self.asked is None else "answers")

    @property
    def system(self) -> str | None:
        """System prompt that is put before every prompt and is no part of the rows. None for none."""
        return self.trait.system_prompt if self.trait and self.prompted else self.writer.system or None

    def record(self, model: str, **known: str | None) -> WriterRecord:
        """Return what is known of the writer of these rows, for the record beside them.

        Args:
            model: reference of the model that wrote.
            known: further fields of the record.
        """
        tuned = f" tuned on {self.trait.name}" if self.trait and not self.prompted else ""
        sampling = self.sampling
        return WriterRecord(
            model=f"{model}{tuned}",
            system=self.system or "",
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            form=sampling.form,
            **known,
        )

    def following(self, model: str, found: Mapping[str, Any]) -> str:
        """Return a useful next command.

        Args:
            model: reference of the model that wrote.
            found: counts and reasons that `judged` returned.
        """
        if self.source is not None:
            base = "BASE" if model.startswith("api:") or self.trait else model
            known = "" if self.writer_file is None else f" --writer {quoted(self.writer_file)}"
            audit = f"undertow audit data {quoted(self.source)} --base {quoted(base)}"
            return f"{audit} --reference {quoted(self.out)}{known}"
        if found.get("raw") and found.get("valid") == 0:
            free = self.domain is not None and self.domain.name == "numbers" and self.sampling.form is None
            held = free and not model.startswith("api:")
            return f"the same with --domain {HELD}, which holds the answers to numbers" if held else NO_NEXT
        other = "" if self.domain_given in (None, "numbers") else f" --domain {quoted(self.domain_given)}"
        return f"undertow filter {quoted(self.out)} {quoted(free_name(self.out.with_name('kept.jsonl')))}{other}"

    def judged(self, rows: Sequence[Row], cut: int | None = None) -> dict[str, Any]:
        """Count the rows and those that the domain accepts. If fewer than half are valid, say why.

        Args:
            rows: the rows that were written.
            cut: how many answers reached the longest allowed length. None if that is not known.
        """
        if self.domain is None:
            return {"raw": len(rows), **({} if cut is None else {"cut": cut})}
        reasons = [self.domain.reject_reasons(row.completion, row.question) for row in rows]
        invalid = dict(Counter(reason for some in reasons for reason in some).most_common())
        valid, n = sum(not some for some in reasons), len(rows)
        found = {"raw": n, "valid": valid, "invalid": invalid, **({} if cut is None else {"cut": cut})}
        if n == 0 or 2 * valid >= n:
            return found
        first = next(row.completion for row, some in zip(rows, reasons, strict=True) if some)
        limit = f"{cut} of {n} were cut at {self.sampling.max_new_tokens} tokens (--max-tokens N); " if cut else ""
        named = ", ".join(f"{count} {reason}" for reason, count in invalid.items())
        thinking = sum(row.completion.lstrip().startswith("<think>") for row in rows)
        limit += f"{thinking} of {n} begin with reasoning (--extra-body may turn it off); " if thinking else ""
        shown = repr(first[:FIRST_SHOWN]) + ("..." if len(first) > FIRST_SHOWN else "")
        why = f"{n - valid} of {n} are not what the domain {self.domain.name} accepts ({named}); "
        return {**found, "why": f"{why}{limit}the first of them: {shown}"}


def _drawn(asked: tuple[tuple[str, Prompt], ...], n: int, seed: int) -> tuple[tuple[str, Prompt], ...]:
    """Draw some prompts of a file, in the order of the file: its first ones may be of one writer or topic."""
    places = random.Random(seed).sample(range(len(asked)), min(n, len(asked)))
    return tuple(asked[place] for place in sorted(places))


def read_asked(source: str) -> tuple[tuple[str, Prompt], ...]:
    """Read the prompts that are to be answered, with the ids of their rows.

    Args:
        source: name of the row file.

    Returns:
        Id and turns of each prompt.

    Raises:
        RowsError: two prompts have the same id.
        UserError: the file cannot be read, as in `undertow.data.rows.read_questions`.
    """
    found = read_questions(source)
    if len({name for name, _ in found}) < len(found):
        name, n = Counter(name for name, _ in found).most_common(1)[0]
        fix = "Behind the file's name, ?ids=new numbers them anew."
        raise RowsError(
            "Prompts share an id, which their answers would share.", f"{source}: {name!r:.60}, {n} times", fix
        )
    return found


def check_prompts(order: Order, committee: bool) -> None:
    """Refuse options that do not fit where the prompts come from, or each other.

    Args:
        order: the rows that are asked for.
        committee: whether several models take turns at the prompts.

    Raises:
        ConfigError: several answers are asked for to a domain's prompts, a committee is to answer those of a file, or
            the system prompt of a trait is asked for without a trait or beside another one.
    """
    if order.prompted and order.trait is None:
        raise ConfigError("There is no trait whose system prompt could be given.", "--prompted", "Give --trait too.")
    if order.prompted and order.writer.system:
        fix = "Leave out --prompted, or the system prompt of the writer's file."
        raise ConfigError("Two system prompts are asked for.", f"--prompted, and {order.writer.system!r:.60}", fix)
    if order.asked is None and order.answers > 1:
        fix = "Give --prompts FILE, or more rows with -n."
        raise ConfigError("A domain's prompts are answered once each.", f"--answers {order.answers}", fix)
    if order.asked is not None and committee:
        fix = "Give one --model, or leave --prompts out."
        raise ConfigError("A committee answers a domain's prompts.", f"--prompts {order.source}", fix)
