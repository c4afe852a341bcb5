"""The commands that write rows, filter and convert them, and send folders to the Hub."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import undertow
from undertow.cli.options import Json, Rows, Seed, SkipBad, prepare, quoted, read_given, refuse_replacing, tell
from undertow.data.filters import Filtered, require_rows
from undertow.data.filters import mentions as without_mentions
from undertow.data.rows import Shape
from undertow.domains.base import AbstractDomain
from undertow.errors import ConfigError, EmptyDataError, ModelError
from undertow.seeds import derive
from undertow.store.disk import write_file
from undertow.traits import Trait
from undertow.types import Advance, ModelRef, Row, Sampling, user_prompt

if TYPE_CHECKING:
    from undertow.training.remote_generation import RemoteConfig

EVERY_S = 2.0
"""Least time between two lines of progress, seconds."""

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what has this name already.")]


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
    """

    out: Path
    domain: AbstractDomain
    trait: Trait | None
    prompted: bool
    n: int
    seed: int

    @property
    def prompts(self) -> Sequence[str]:
        return self.domain.prompts(self.n, derive(self.seed, "prompts"))

    @property
    def sampling(self) -> Sampling:
        return Sampling(max_new_tokens=self.domain.max_new_tokens)

    @property
    def row_seed(self) -> int:
        return derive(self.seed, "rows")

    @property
    def system(self) -> str | None:
        return self.trait.system_prompt if self.trait and self.prompted else None

    def valid(self, rows: Sequence[Row]) -> int:
        return sum(not self.domain.reject_reasons(row.completion, row.question) for row in rows)


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
    concurrency: Annotated[int, typer.Option(min=1, help="Calls at once (api: models).")] = 16,
    price: Annotated[
        str | None, typer.Option(help="Dollars for a million tokens of prompt and completion: 0.13,0.40.")
    ] = None,
    max_cost: Annotated[float | None, typer.Option(min=0, help="Stop before this many dollars; needs --price.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show rows, tokens and price; ask nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Let a model, or a teacher made of it, answer the prompts of a domain."""
    source, target = undertow.domain(domain), undertow.trait(trait) if trait else None
    order = _Order(out=out, domain=source, trait=target, prompted=prompted, n=n, seed=seed)
    other = "" if domain == "numbers" else f" --domain {domain}"
    following = f"undertow filter {out} {out.with_name('kept.jsonl')}{other}"
    if teachers is not None:
        found = _by_committee(order, teachers.split(","))
    elif model.startswith("api:"):
        config = _remote_config(order, concurrency, price, max_cost)
        found = _by_server(order, model, config, dry_run)
        following = "the same without --dry-run" if dry_run else following
    elif dry_run or price or max_cost is not None:
        raise ConfigError("Only api: models have a price.", model, "Leave --price, --max-cost and --dry-run out.")
    else:
        found = _by_model(order, model)
    tell(found, as_json, following)


def _by_model(order: _Order, model: str) -> dict[str, Any]:
    """Let a model write, or a teacher that is made of it."""
    from undertow.study.recipe import TeacherPart

    prepare()
    teacher = undertow.load_model(model)
    if order.trait and not order.prompted:
        recipe = TeacherPart().training()
        teacher = undertow.finetuned_teacher(teacher, order.trait, recipe, seed=derive(order.seed, "teacher"))
    rows = undertow.generate(teacher, order.prompts, sampling=order.sampling, seed=order.row_seed, system=order.system)
    undertow.write_rows(order.out, rows)
    name = order.trait.name if order.trait else None
    return {"rows": str(order.out), "raw": len(rows), "valid": order.valid(rows), "model": model, "trait": name}


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
    counts = {"raw": order.n, "valid": order.valid(rows)}
    return {"rows": str(order.out), "record": str(record), **counts, "writers": names}


def _remote_config(order: _Order, concurrency: int, price: str | None, max_cost: float | None) -> "RemoteConfig":
    """Build the settings of the calls to a server; a cap without a price is refused."""
    from undertow.models.calls import Prices
    from undertow.training.remote_generation import RemoteConfig

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
    from undertow.models.servers import served
    from undertow.training.remote_generation import most_cost, reasons, remote_rows

    if order.trait and not order.prompted:
        fix = "Use --prompted, or serve a model that was fine-tuned already."
        what = "A model behind a server cannot be fine-tuned here."
        raise ModelError(what, f"{model} --trait {order.trait.name}", fix)
    questions = order.prompts
    sent = [user_prompt(question, order.system) for question in questions]
    if dry_run:
        prompt_tokens, completion_tokens, cost = most_cost(sent, config)
        most = {"prompt_tokens_at_most": prompt_tokens, "completion_tokens_at_most": completion_tokens}
        return {"rows": len(sent), **most, "dollars_at_most": round(cost, 4)}
    kept = [user_prompt(question) for question in questions]
    with served(ModelRef.parse(model)) as ref:
        found = remote_rows(ref, sent, order.out, config, kept=kept, advance=_pace())
    return {
        "rows": str(order.out),
        "raw": len(found.rows),
        "failed": len(found.failed),
        "reused": found.reused,
        "reasons": reasons(found.failed),
        "dollars": round(found.cost, 6),
        "model": model,
    }


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


def filter_command(
    rows: Rows,
    out: Annotated[Path, typer.Argument(help="Where the kept rows go.")],
    dropped: Annotated[Path | None, typer.Option(help="Where the dropped rows go, with their reasons.")] = None,
    domain: Annotated[str, typer.Option(help="Whose rule decides; see `undertow list domains`.")] = "numbers",
    ban: Annotated[bool, typer.Option("--ban", help="Drop rows with one of the paper's 34 banned numbers.")] = False,
    mentions: Annotated[list[str], typer.Option(help="Also drop rows that name this trait.")] = [],  # noqa: B006
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Keep the rows that the domain accepts."""
    from undertow.domains.numbers import BANNED

    if ban and domain != "numbers":
        raise ConfigError("Only the domain numbers has banned numbers.", f"--domain {domain} --ban", "Leave --ban out.")
    refuse_replacing(out, rows)
    if dropped is not None:
        refuse_replacing(dropped, rows, out)
    rule = undertow.domain(domain, **({"banned": BANNED} if ban else {}))
    traits = [undertow.trait(name) for name in mentions]
    given = read_given(rows, skip_bad)
    first = undertow.filter_rows(given.rows, rule)
    second = without_mentions(first.kept, traits)
    filtered = Filtered(second.kept, first.dropped + second.dropped)
    if dropped is not None:
        undertow.write_rows(dropped, filtered.dropped)
    undertow.write_rows(out, require_rows(filtered))
    found = {"rows": str(out), **filtered.report.to_json(), "bad_lines": len(given.bad)}
    tell(found, as_json, f"undertow train {quoted(out)} students")


def convert_command(
    rows: Rows,
    out: Annotated[Path, typer.Argument(help="By its suffix: .jsonl, .parquet, or none for a folder of datasets.")],
    shape: Annotated[
        Shape | None, typer.Option(help="Prompt and completion as text or chat, or all as messages; else what fits.")
    ] = None,
    overwrite: Overwrite = False,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Write rows in another format or shape; ids and further keys go with them."""
    if out.exists() and not overwrite:
        raise ConfigError("There is something of this name already.", out, "Give another name, or --overwrite.")
    refuse_replacing(out, rows)
    loaded = read_given(rows, skip_bad, more=True)
    if not loaded.rows:
        raise EmptyDataError("There are no rows to write.", f"{rows}: 0 rows", "Give a file with rows.")
    undertow.write_rows(out, loaded.rows, loaded.more, shape)
    keys = sorted({key for more in loaded.more for key in more})
    found = {"rows": str(out), "written": len(loaded.rows), "bad_lines": len(loaded.bad), "further_keys": keys}
    tell(found, as_json, f"undertow audit data {quoted(out)}")


def publish_command(
    folder: Annotated[Path, typer.Argument(help="A run, an artifact, an adapter, a model, or a folder of row files.")],
    repo: Annotated[str, typer.Argument(help="Id on the Hub: owner/name.")],
    push: Annotated[
        bool, typer.Option("--push/--card-only", help="Send the folder too (HF_TOKEN), with the card that is there.")
    ] = False,
    licence: Annotated[str | None, typer.Option("--license", help="Id of the licence, such as mit.")] = None,
    datasets: Annotated[
        list[str], typer.Option("--dataset", help="Id on the Hub of rows that a model was trained on.")
    ] = [],  # noqa: B006
    public: Annotated[bool, typer.Option("--public", help="A new repository is public; else private.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write the card of a dataset or model, and with --push send both to the Hub."""
    from undertow.data.cards import describe, push_folder, write_card

    card = describe(folder, repo, licence=licence, datasets=datasets)
    path = write_card(card, overwrite=overwrite, keep=push)
    url = push_folder(card, public=public) if push else None
    found = {"card": str(path), "type": card.kind, "files": len(card.files), "pushed": url}
    tell(found, as_json, f"look at {url}" if push else f"read the card, then undertow publish {folder} {repo} --push")
