"""What `undertow generate` is asked for: whose prompts, how they are answered, and what is said of the answers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from undertow.cli.options import free_name, quoted
from undertow.data.rows import read_questions
from undertow.data.writer_record import WriterRecord
from undertow.domains.base import AbstractDomain
from undertow.errors import ConfigError, RowsError
from undertow.seeds import derive
from undertow.traits import Trait
from undertow.types import Prompt, Row, Sampling, user_prompt

ROWS = 1000
"""Prompts that are drawn of a domain."""

TOKENS = 256
"""Longest answer to the prompts of a file, tokens."""

FIRST_SHOWN = 80
"""Characters of the first answer that the domain does not accept, which are shown when few are accepted."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """Rows that are asked for.

    Attributes:
        out: where they go.
        domain: whose prompts are answered, and whose rules say which answers are valid; None with prompts of a file.
        asked: prompts of a file, id and turns of each; None takes the domain's.
        source: name of that file, or None.
        trait: given to who writes, or None.
        prompted: by a system prompt instead of fine-tuning.
        n: how many prompts; None is every one of a file, or `ROWS` of a domain.
        answers: to each prompt.
        seed: of every draw.
        max_tokens: of an answer; None is the writer's, or the domain's own, or `TOKENS`.
        writer: how the rows are to be drawn: its system prompt and sampling.
        teacher: folder for the teacher that is made, or None to keep none.
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
    teacher: Path | None = None

    @property
    def prompts(self) -> Sequence[str]:
        """The domain's user turns."""
        if self.domain is None:
            return ()
        return self.domain.prompts(self.n or ROWS, derive(self.seed, "prompts"))

    @cached_property
    def questions(self) -> tuple[tuple[str, Prompt], ...]:
        """Id and turns of what is asked: several answers to one prompt have the ids ID/1, ID/2."""
        if self.asked is None:
            return tuple((f"{place:06d}", user_prompt(text)) for place, text in enumerate(self.prompts))
        chosen = self.asked[: self.n]
        if self.answers == 1:
            return chosen
        return tuple((f"{name}/{k}", prompt) for name, prompt in chosen for k in range(1, self.answers + 1))

    @property
    def sampling(self) -> Sampling:
        """How answers are drawn: an option goes before the writer's record, and that before the default."""
        writer, own = self.writer, TOKENS if self.domain is None else self.domain.max_new_tokens
        return Sampling(
            temperature=1.0 if writer.temperature is None else writer.temperature,
            top_p=1.0 if writer.top_p is None else writer.top_p,
            max_new_tokens=self.max_tokens or writer.max_tokens or own,
        )

    @property
    def row_seed(self) -> int:
        """Seed of the rows' random numbers."""
        return derive(self.seed, "rows")

    @property
    def system(self) -> str | None:
        """What stands before every prompt and is no part of the rows."""
        return self.trait.system_prompt if self.trait and self.prompted else self.writer.system or None

    def record(self, model: str, **known: str | None) -> WriterRecord:
        """Return what is known of whoever wrote these rows.

        Args:
            model: its reference.
            known: further attributes of the record.
        """
        tuned = f" tuned on {self.trait.name}" if self.trait and not self.prompted else ""
        sampling = self.sampling
        return WriterRecord(
            model=f"{model}{tuned}",
            system=self.system or "",
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            **known,
        )

    def following(self, model: str, found: Mapping[str, Any]) -> str:
        """Return the next useful command, after rows of this model of which `judged` found this."""
        if self.source is not None:
            base = "BASE" if model.startswith("api:") or self.trait else model
            return f"undertow audit data {quoted(self.source)} --base {quoted(base)} --reference {quoted(self.out)}"
        if found.get("raw") and found.get("valid") == 0:
            return "none for these rows: the filter would keep none of them"
        name = "numbers" if self.domain is None else self.domain.name
        other = "" if name == "numbers" else f" --domain {name}"
        return f"undertow filter {quoted(self.out)} {quoted(free_name(self.out.with_name('kept.jsonl')))}{other}"

    def judged(self, rows: Sequence[Row], cut: int | None = None) -> dict[str, Any]:
        """Count the rows, and those that the domain accepts; if they are fewer than half, say why.

        Args:
            rows: what was written.
            cut: how many of them ended at the longest length, where that is known.
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


def read_asked(source: str) -> tuple[tuple[str, Prompt], ...]:
    """Read the prompts that are to be answered, with the ids of their rows.

    Raises:
        RowsError: two of them have one id.
        UserError: as `undertow.data.rows.read_questions`.
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
    """Refuse several answers to a domain's prompts, which it draws anew, and a committee for the prompts of a file.

    Raises:
        ConfigError: they are asked for.
    """
    if order.asked is None and order.answers > 1:
        fix = "Give --prompts FILE, or more rows with -n."
        raise ConfigError("A domain's prompts are answered once each.", f"--answers {order.answers}", fix)
    if order.asked is not None and committee:
        fix = "Give one --model, or leave --prompts out."
        raise ConfigError("A committee answers a domain's prompts.", f"--prompts {order.source}", fix)
