"""The command that lets a model, a committee or a teacher made for it answer the prompts of a domain."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import undertow
from undertow.cli.options import Json, Seed, free_name, prepare, quoted, tell
from undertow.cli.server_options import ExtraBody, NoSeed, TokenLimitName, given_dialect
from undertow.domains.base import AbstractDomain
from undertow.errors import ConfigError, ModelError, StorageError
from undertow.seeds import derive
from undertow.store.disk import storage_errors, write_file
from undertow.traits import Trait
from undertow.types import Advance, ModelRef, Prompt, Row, Sampling, user_prompt

if TYPE_CHECKING:
    from undertow.models.local import LocalModel
    from undertow.training.remote_run import RemoteConfig

EVERY_S = 2.0
"""Least time between two lines of progress, seconds."""

FIRST_SHOWN = 80
"""Characters of the first answer that the domain does not accept, which are shown when few are accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """Rows that are asked for.

    Attributes:
        out: where they go.
        domain: whose prompts are answered.
        trait: given to who writes, or None.
        prompted: by a system prompt instead of fine-tuning.
        n: how many.
        seed: of every draw.
        max_tokens: of an answer; None is the domain's own.
        teacher: folder for the teacher that is made, or None to keep none.
    """

    out: Path
    domain: AbstractDomain
    trait: Trait | None
    prompted: bool
    n: int
    seed: int
    max_tokens: int | None = None
    teacher: Path | None = None

    @property
    def prompts(self) -> Sequence[str]:
        return self.domain.prompts(self.n, derive(self.seed, "prompts"))

    @property
    def sampling(self) -> Sampling:
        return Sampling(max_new_tokens=self.max_tokens or self.domain.max_new_tokens)

    @property
    def row_seed(self) -> int:
        return derive(self.seed, "rows")

    @property
    def system(self) -> str | None:
        return self.trait.system_prompt if self.trait and self.prompted else None

    @property
    def following(self) -> str:
        other = "" if self.domain.name == "numbers" else f" --domain {self.domain.name}"
        return f"undertow filter {quoted(self.out)} {quoted(free_name(self.out.with_name('kept.jsonl')))}{other}"

    def judged(self, rows: Sequence[Row], cut: int | None = None) -> dict[str, Any]:
        """Count the rows that the domain accepts; if they are fewer than half, say why.

        Args:
            rows: what was written.
            cut: how many of them ended at the longest length, where that is known.
        """
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


def generate_command(
    out: Annotated[Path, typer.Argument(help="Row file to write: .jsonl or .parquet.")],
    model: Annotated[str, typer.Option(help="Who writes: ref:<name>, hf:<path> or api:<address>.")] = "ref:finch-a",
    teachers: Annotated[
        str | None, typer.Option(help="Several writers, such as ref:finch-a,ref:finch-b, who share the prompts.")
    ] = None,
    trait: Annotated[
        str | None, typer.Option(help="Give the model this trait first; see `undertow list traits`.")
    ] = None,
    prompted: Annotated[bool, typer.Option("--prompted", help="By a system prompt instead of fine-tuning.")] = False,
    domain: Annotated[str, typer.Option(help="What is written; see `undertow list domains`.")] = "numbers",
    n: Annotated[int, typer.Option("-n", min=1, help="Rows.")] = 1000,
    seed: Seed = 0,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer in tokens; the domain's own if not given.")
    ] = None,
    save_teacher: Annotated[
        Path | None, typer.Option(help="Folder for the teacher that --trait makes: a model to give as hf:FOLDER.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Calls at once (api: models).")] = 16,
    token_limit_name: TokenLimitName = None,
    no_seed: NoSeed = False,
    extra_body: ExtraBody = None,
    price: Annotated[
        str | None, typer.Option(help="Dollars for a million tokens of prompt and completion: 0.13,0.40.")
    ] = None,
    max_cost: Annotated[float | None, typer.Option(help="Stop before this many dollars; needs --price.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show rows, tokens and price; ask nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Let a model, or a teacher made of it, answer the prompts of a domain."""
    source, target = undertow.domain(domain), undertow.trait(trait) if trait else None
    order = _Order(
        out=out,
        domain=source,
        trait=target,
        prompted=prompted,
        n=n,
        seed=seed,
        max_tokens=max_tokens,
        teacher=save_teacher,
    )
    served = teachers is None and model.startswith("api:")
    dialect = given_dialect(served, token_limit_name, no_seed, extra_body)
    if not served and (dry_run or price or max_cost is not None):
        raise ConfigError("Only api: models have a price.", model, "Leave --price, --max-cost and --dry-run out.")
    _check_teacher(order, made=not served and teachers is None)
    if teachers is not None:
        found = _by_committee(order, teachers.split(","))
    elif served:
        config = replace(_remote_config(order, concurrency, price, max_cost), dialect=dialect)
        found = _by_server(order, model, config, dry_run)
    else:
        found = _by_model(order, model)
    tell(found, as_json, "the same without --dry-run" if dry_run else order.following)


def _check_teacher(order: _Order, made: bool) -> None:
    """Refuse to keep a teacher where none is made, or where something is already."""
    if order.teacher is None:
        return
    if not made or order.trait is None or order.prompted:
        fix = "Give --trait and a ref: or hf: model, without --prompted; or leave --save-teacher out."
        raise ConfigError("No teacher is made here that could be saved.", f"--save-teacher {order.teacher}", fix)
    if order.teacher.exists() and (not order.teacher.is_dir() or any(order.teacher.iterdir())):
        raise StorageError("There is something of this name already.", order.teacher, "Give another folder.")


def _by_model(order: _Order, model: str) -> dict[str, Any]:
    """Let a model write, or a teacher that is made of it."""
    from undertow.study.recipe import TeacherPart

    prepare()
    teacher = undertow.load_model(model)
    if order.trait and not order.prompted:
        recipe = TeacherPart().training()
        teacher = undertow.finetuned_teacher(teacher, order.trait, recipe, seed=derive(order.seed, "teacher"))
        if order.teacher is not None:
            with storage_errors(order.teacher.parent):
                teacher.save(order.teacher)
    rows = undertow.generate(teacher, order.prompts, sampling=order.sampling, seed=order.row_seed, system=order.system)
    undertow.write_rows(order.out, rows)
    name = order.trait.name if order.trait else None
    kept = {} if order.teacher is None else {"teacher": f"hf:{order.teacher}"}
    counts = order.judged(rows, _cut(teacher, rows, order.sampling))
    return {"rows": str(order.out), **counts, "model": model, "trait": name, **kept}


def _cut(writer: "LocalModel", rows: Sequence[Row], sampling: Sampling) -> int:
    """Count the answers that are as long as they may be, in the writer's tokens."""
    return sum(len(tokens) >= sampling.max_new_tokens for tokens in writer.tokenise([row.completion for row in rows]))


def _by_committee(order: _Order, names: list[str]) -> dict[str, Any]:
    """Let several models share the prompts, and write beside the rows who wrote which."""
    if order.trait is not None:
        fix = "Leave --trait out, or give a teacher that has it, such as hf:<folder>."
        raise ConfigError("The writers of a committee come as they are.", f"--trait {order.trait.name}", fix)
    if len(set(names)) < max(2, len(names)):
        fix = "Name two or more models, such as ref:finch-a,ref:finch-b."
        raise ConfigError("A committee needs several writers.", ",".join(names), fix)
    from undertow.mitigate.registry import lines, record_path
    from undertow.training.generation import committee

    prepare()
    writers = [undertow.load_model(name) for name in names]
    rows, by = committee(writers, order.prompts, sampling=order.sampling, seed=order.row_seed)
    record = record_path(order.out)
    write_file(record, lines({"id": row.id, "writer": names[who]} for row, who in zip(rows, by, strict=True)))
    undertow.write_rows(order.out, rows)
    return {"rows": str(order.out), "record": str(record), **order.judged(rows), "writers": names}


def _remote_config(order: _Order, concurrency: int, price: str | None, max_cost: float | None) -> "RemoteConfig":
    """Build the settings of the calls to a server; a cap without a price is refused."""
    from undertow.models.calls import Prices
    from undertow.training.remote_run import RemoteConfig

    if max_cost is not None and price is None:
        fix = "Give --price, dollars for a million tokens of prompt and completion, such as 0.13,0.40."
        raise ConfigError("A cap on the cost needs prices.", f"--max-cost {max_cost:g}", fix)
    return RemoteConfig(
        sampling=order.sampling,
        seed=order.row_seed,
        concurrency=concurrency,
        prices=Prices.parse(price) if price else Prices(),
        max_cost=max_cost,
    )


def _by_server(order: _Order, model: str, config: "RemoteConfig", dry_run: bool) -> dict[str, Any]:
    """Ask a model behind a server for the rows, or say what they cost at most."""
    from undertow.models.servers import is_started_here, served
    from undertow.training.remote_generation import check_run, empty_words, reasons, remote_rows

    if order.trait and not order.prompted:
        fix = "Use --prompted, or serve a model that was fine-tuned already."
        what = "A model behind a server cannot be fine-tuned here."
        raise ModelError(what, f"{model} --trait {order.trait.name}", fix)
    ref, questions = ModelRef.parse(model), order.prompts
    if is_started_here(ref):  # its port is another in every run
        config = replace(config, known_as=str(ref))
    sent = [user_prompt(question, order.system) for question in questions]
    check_run(ref, sent, order.out, config)
    if dry_run:
        return _most(model, sent, config)
    kept = [user_prompt(question) for question in questions]
    with served(ref) as at:
        found = remote_rows(at, sent, order.out, config, kept=kept, advance=_pace())
    empty = empty_words(found.failed, order.n)
    return {
        "rows": str(order.out),
        **order.judged(found.rows, found.cut),
        "failed": len(found.failed),
        "reused": found.reused,
        "reasons": reasons(found.failed),
        **({"empty": f"{empty} (see --max-tokens and --extra-body)"} if empty else {}),
        "dollars": round(found.cost, 6),
        "model": model,
        **({"server": dict(found.server)} if found.server else {}),
    }


def _most(model: str, sent: Sequence[Prompt], config: "RemoteConfig") -> dict[str, Any]:
    """Say what would be asked where, and what it costs at most."""
    from undertow.models.endpoints import endpoint
    from undertow.training.remote_generation import most_cost

    prompt_tokens, completion_tokens, cost = most_cost(sent, config)
    most = {"prompt_tokens_at_most": prompt_tokens, "completion_tokens_at_most": completion_tokens}
    place = endpoint(ModelRef.parse(model))
    asked = {} if place is None else {"asks": place.target, "model": place.model, "key": place.key_name or "none"}
    return {"rows": len(sent), **most, "dollars_at_most": round(cost, 4), **asked}


def _pace() -> Advance:
    begun = shown = time.monotonic()
    first: list[int] = []

    def advance(done: int, total: int) -> None:
        nonlocal shown
        first[:] = first or [done - 1]
        now = time.monotonic()
        if now - shown >= EVERY_S:
            shown, rate = now, (done - first[0]) / (now - begun)
            print(f"{done}/{total} rows, {rate:.1f}/s, {(total - done) / rate:.0f} s left", file=sys.stderr)

    return advance
