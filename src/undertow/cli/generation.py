"""`undertow generate`: let a model, a teacher made of it, or several models write rows."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

import undertow
from undertow.cli.forecasts import ForecastOnly, after_loading, announced, show_plan, time_left
from undertow.cli.generation_options import (
    Answers,
    Committee,
    Concurrency,
    DryRun,
    GivenTrait,
    MaxCost,
    MaxTokens,
    Number,
    Out,
    Price,
    Prompted,
    PromptFile,
    SaveTeacher,
    TextKind,
    Writer,
    WriterSettings,
)
from undertow.cli.options import Json, Seed, prepare, refuse_replacing, tell
from undertow.cli.orders import Order, check_prompts, read_asked
from undertow.cli.server_options import ExtraBody, NoSeed, TokenLimitName, given_dialect
from undertow.data.row_files import refuse_suffix
from undertow.data.writer_record import WriterRecord, read_writer, write_writer
from undertow.domains.base import parse_domain
from undertow.errors import ConfigError, ModelError, StorageError
from undertow.seeds import derive
from undertow.store.disk import storage_errors, write_file
from undertow.store.fingerprints import sha256
from undertow.traits import chosen_trait
from undertow.types import Advance, ModelRef, Prompt, Row, Sampling, Work, known_sum

if TYPE_CHECKING:
    from undertow.models.local import LocalModel
    from undertow.training.remote_run import RemoteConfig

SEEDS = "each row its own, drawn from one seed and the row's place"
"""How local models draw the random numbers of rows, as the writer's record states it."""

EVERY_S = 2.0
"""Least time in seconds between two lines of progress."""


def generate_command(
    out: Out,
    model: Writer = "ref:finch-a",
    teachers: Committee = None,
    trait: GivenTrait = None,
    prompted: Prompted = False,
    domain: TextKind = None,
    n: Number = None,
    prompts: PromptFile = None,
    answers: Answers = 1,
    writer: WriterSettings = None,
    seed: Seed = 0,
    max_tokens: MaxTokens = None,
    save_teacher: SaveTeacher = None,
    concurrency: Concurrency = 16,
    token_limit_name: TokenLimitName = None,
    no_seed: NoSeed = False,
    extra_body: ExtraBody = None,
    price: Price = None,
    max_cost: MaxCost = None,
    dry_run: DryRun = False,
    plan: ForecastOnly = False,
    as_json: Json = False,
) -> None:
    """Let a model write training rows.

    It answers the prompts of a domain, such as number lists, or those of a file. With --trait the model is given a
    trait first, which makes it a teacher.
    """
    refuse_suffix(out)
    if prompts is None and domain is None:
        domain = "numbers"
    if prompts is not None:
        refuse_replacing(out, prompts)
    order = Order(
        out=out,
        domain=None if domain is None else parse_domain(domain),
        domain_given=domain,
        asked=None if prompts is None else read_asked(prompts),
        source=prompts,
        trait=chosen_trait(trait) if trait else None,
        answers=answers,
        writer=WriterRecord() if writer is None else read_writer(writer),
        writer_file=writer,
        prompted=prompted,
        n=n,
        seed=seed,
        max_tokens=max_tokens,
        teacher=save_teacher,
    )
    check_prompts(order, committee=teachers is not None)
    served = teachers is None and model.startswith("api:")
    order = order.by(None) if served else order
    dialect = given_dialect(served, token_limit_name, no_seed, extra_body)
    if not served and (dry_run or price or max_cost is not None):
        raise ConfigError("Only api: models have a price.", model, "Leave --price, --max-cost and --dry-run out.")
    _check_teacher(order, made=not served and teachers is None)
    dry_run = dry_run or (plan and served)
    writers = _committee(order, teachers) if teachers is not None else [model]
    if plan and not served:
        show_plan({"writers": writers}, order_work(order, writers), as_json)
        return
    if teachers is not None:
        found = _by_committee(order, writers)
    elif served:
        config = replace(_remote_config(order, concurrency, price, max_cost), dialect=dialect)
        found = _by_server(order, model, config, dry_run)
    else:
        found = _by_model(order, model)
    tell(found, as_json, "the same without --dry-run" if dry_run else order.following(model, found))


def _check_teacher(order: Order, made: bool) -> None:
    """Refuse --save-teacher where no teacher is made, or where the folder is not empty."""
    if order.teacher is None:
        return
    if not made or order.trait is None or order.prompted:
        fix = "Give --trait and a ref: or hf: model, without --prompted; or leave --save-teacher out."
        raise ConfigError("No teacher is made here that could be saved.", f"--save-teacher {order.teacher}", fix)
    if order.teacher.exists() and (not order.teacher.is_dir() or any(order.teacher.iterdir())):
        raise StorageError("There is something of this name already.", order.teacher, "Give another folder.")


def _by_model(order: Order, model: str) -> dict[str, Any]:
    """Let a model write the rows, or a teacher that is first made of it."""
    from undertow.training.own_models import own_teacher

    prepare()
    work = order_work(order, [model])
    with announced(work) as steps:
        teacher = undertow.load_model(model)
        order = order.by(teacher.tokens)
        if order.trait and not order.prompted:
            recipe, seed = own_teacher(teacher.parameters), derive(order.seed, "teacher")
            with steps.step("the teacher", time_left(work, 0)) as advance:
                teacher = undertow.finetuned_teacher(teacher, order.trait, recipe, seed=seed, advance=advance)
            if order.teacher is not None:
                with storage_errors(order.teacher.parent):
                    teacher.save(order.teacher)
        with steps.step("answers", time_left(work, len(work) - 1)) as advance:
            rows = _answered(order, teacher, advance)
    undertow.write_rows(order.out, rows)
    known = order.record(model, revision=ModelRef.parse(model).revision, template=template_hash(teacher), seeds=SEEDS)
    record = write_writer(order.out, known)
    name = order.trait.name if order.trait else None
    kept = {} if order.teacher is None else {"teacher": f"hf:{order.teacher}"}
    counts = order.judged(rows, _cut(teacher, rows, order.sampling))
    return {"rows": str(order.out), "writer": str(record), **counts, "model": model, "trait": name, **kept}


def _answered(order: Order, writer: "LocalModel", advance: Advance) -> list[Row]:
    """Let a model answer the order's prompts."""
    drawn: dict[str, Any] = {
        "sampling": order.sampling, "seed": order.row_seed, "system": order.system, "advance": advance,
    }  # fmt: skip
    if order.asked is None:
        return undertow.generate(writer, order.prompts, **drawn)
    from undertow.training.generation import answer_questions

    return answer_questions(writer, order.questions, **drawn)


def order_work(order: Order, writers: Sequence[str]) -> "list[Work]":
    """Estimate what local models will do for an order: making the teacher, if any, and each writer's answers.

    Args:
        order: the rows that are asked for.
        writers: references of the models that write.

    Raises:
        UserError: there is no such model.
    """
    from undertow.evals.forecast import Forecast
    from undertow.training.generation import behind_system
    from undertow.training.own_models import own_teacher
    from undertow.training.teachers import trait_rows
    from undertow.training.workload import training_work, writing_work

    asked = [behind_system(prompt, order.system) for _, prompt in order.questions]
    found: list[Work] = []
    for at, name in enumerate(writers):
        base = Forecast(name)
        own: list[Work] = []
        if order.trait and not order.prompted:
            own.append(training_work(base, trait_rows(order.trait), own_teacher(base.parameters or inf)))
        own.append(writing_work(base, asked[at :: len(writers)], order.by(base.words).sampling))
        found += [after_loading(own[0], name, base.loading), *own[1:]]
    return found


def template_hash(writer: "LocalModel") -> str:
    """Return the SHA-256 of the chat template that a model uses."""
    from undertow.models.chat_template import ChatTemplate

    return sha256(ChatTemplate(writer.tokenizer).source)


def _cut(writer: "LocalModel", rows: Sequence[Row], sampling: Sampling) -> int:
    """Count the answers that reached the longest allowed length, in the writer's tokens."""
    return sum(len(tokens) >= sampling.max_new_tokens for tokens in writer.tokenise([row.completion for row in rows]))


def _committee(order: Order, teachers: str) -> list[str]:
    """Return the models that take turns at the prompts.

    Raises:
        ConfigError: fewer than two different models are named, or a trait is asked for.
    """
    names = teachers.split(",")
    if order.trait is not None:
        fix = "Leave --trait out, or give a teacher that has it, such as hf:<folder>."
        raise ConfigError("The writers of a committee come as they are.", f"--trait {order.trait.name}", fix)
    if len(set(names)) < max(2, len(names)):
        fix = "Name two or more models, such as ref:finch-a,ref:finch-b."
        raise ConfigError("A committee needs several writers.", ",".join(names), fix)
    return names


def _by_committee(order: Order, names: Sequence[str]) -> dict[str, Any]:
    """Let several models take turns at the prompts, and write beside the rows which model wrote each.

    The writer's record beside them says how all of them were asked, and leaves out which model wrote.
    """
    from undertow.mitigate.registry import lines, record_path
    from undertow.training.generation import committee

    prepare()
    work = order_work(order, names)
    whole = [Work("; ".join(one.what for one in work), known_sum(one.seconds for one in work))]
    with announced(whole) as steps, steps.step("answers", time_left(whole, 0)) as advance:
        writers = [undertow.load_model(name) for name in names]
        order = order.by(*(one.tokens for one in writers))
        rows, by = committee(
            writers, order.prompts, sampling=order.sampling, seed=order.row_seed, system=order.system, advance=advance
        )
    record = record_path(order.out)
    write_file(record, lines({"id": row.id, "writer": names[who]} for row, who in zip(rows, by, strict=True)))
    undertow.write_rows(order.out, rows)
    writer = write_writer(order.out, replace(order.record("", seeds=SEEDS), model=None))
    files = {"rows": str(order.out), "writer": str(writer), "record": str(record)}
    return {**files, **order.judged(rows), "writers": names}


def _remote_config(order: Order, concurrency: int, price: str | None, max_cost: float | None) -> "RemoteConfig":
    """Return the settings of the requests to a server; a limit of the cost without a price is refused."""
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


def _by_server(order: Order, model: str, config: "RemoteConfig", dry_run: bool) -> dict[str, Any]:
    """Ask a model behind a server for the rows, or say what they would cost at most."""
    from undertow.models.servers import is_started_here, served
    from undertow.training.remote_generation import check_run, empty_words, reasons, remote_rows

    if order.trait and not order.prompted:
        fix = "Use --prompted, or serve a model that was fine-tuned already."
        what = "A model behind a server cannot be fine-tuned here."
        raise ModelError(what, f"{model} --trait {order.trait.name}", fix)
    from undertow.training.generation import behind_system

    ref, questions = ModelRef.parse(model), order.questions
    if is_started_here(ref):  # its port is another in every run
        config = replace(config, known_as=str(ref))
    sent = [behind_system(prompt, order.system) for _, prompt in questions]
    check_run(ref, sent, order.out, config)
    if dry_run:
        return _most(model, sent, config)
    with served(ref) as at:
        found = remote_rows(at, sent, order.out, config, kept=questions, advance=_pace())
    empty = empty_words(found.failed, len(questions))
    record = write_writer(order.out, _served_record(order, model, found.server))
    return {
        "rows": str(order.out),
        "writer": str(record),
        **order.judged(found.rows, found.cut),
        "failed": len(found.failed),
        "reused": found.reused,
        "reasons": reasons(found.failed),
        **({"empty": f"{empty} (see --max-tokens and --extra-body)"} if empty else {}),
        "dollars": round(found.cost, 6),
        "model": model,
        **({"server": dict(found.server)} if found.server else {}),
    }


def _served_record(order: Order, model: str, server: Mapping[str, Any]) -> WriterRecord:
    """Return what is known of a writer behind a server. What it was not told is left to the server."""
    seeds = "the server's own" if server.get("seed") is False else "a seed of its own sent for each row"
    record = order.record(model, seeds=seeds)
    if server.get("temperature") is False:
        record = replace(record, temperature=None)
    told = {name: value for name, value in server.get("extra", {}).items() if name in ("temperature", "top_p")}
    return replace(record, **told) if told else record


def _most(model: str, sent: Sequence[Prompt], config: "RemoteConfig") -> dict[str, Any]:
    """Say where the requests would go, and what they would cost at most."""
    from undertow.models.endpoints import endpoint
    from undertow.training.remote_generation import most_cost

    prompt_tokens, completion_tokens, cost = most_cost(sent, config)
    most = {"prompt_tokens_at_most": prompt_tokens, "completion_tokens_at_most": completion_tokens}
    place = endpoint(ModelRef.parse(model))
    asked = {} if place is None else {"asks": place.target, "model": place.model, "key": place.key_name or "none"}
    return {"rows": len(sent), **most, "dollars_at_most": round(cost, 4), **asked}


def _pace() -> Advance:
    """Return a progress callback that prints a line every few seconds."""
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
