"""`undertow generate` with a model behind a server, and `undertow train-remote`: a student that a service trains."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from undertow.cli.stages import tell

EVERY_S = 2.0


def remote_config(longest: int, seed: int, concurrency: int, price: str | None, max_cost: float | None) -> Any:
    """Build the settings of the calls from the options; a cap without a price is refused."""
    from undertow.errors import ConfigError
    from undertow.models.calls import Prices
    from undertow.seeds import derive
    from undertow.training.remote_generation import RemoteConfig
    from undertow.types import Sampling

    if max_cost is not None and price is None:
        fix = "Give --price, dollars for a million tokens of prompt and completion, such as 0.13,0.40."
        raise ConfigError("A cap on the cost needs prices.", f"--max-cost {max_cost:g}", fix)
    return RemoteConfig(
        sampling=Sampling(max_new_tokens=longest),
        seed=derive(seed, "rows"),
        concurrency=concurrency,
        prices=Prices.parse(price) if price else Prices(),
        max_cost=max_cost,
    )


def generate_remotely(
    out: Path, model: str, questions: Any, teacher: tuple[Any, bool], config: Any, dry_run: bool
) -> dict[str, Any]:
    """Ask for the rows, or say what they cost; `teacher` is (trait or None, prompted)."""
    from undertow.errors import ModelError
    from undertow.models.servers import served
    from undertow.training.remote_generation import most_cost, reasons, remote_rows
    from undertow.types import ModelRef, user_prompt

    target, prompted = teacher
    if target and not prompted:
        fix = "Use --prompted, or serve a model that was fine-tuned already."
        raise ModelError("A model behind a server cannot be fine-tuned here.", f"{model} --trait {target.name}", fix)
    sent = [user_prompt(question, target.system_prompt if target else None) for question in questions]
    if dry_run:
        prompt_tokens, completion_tokens, cost = most_cost(sent, config)
        most = {"prompt_tokens_at_most": prompt_tokens, "completion_tokens_at_most": completion_tokens}
        return {"rows": len(sent), **most, "dollars_at_most": round(cost, 4)}
    kept = [user_prompt(question) for question in questions]
    with served(ModelRef.parse(model)) as ref:
        found = remote_rows(ref, sent, out, config, kept=kept, advance=_progress())
    counts = {"raw": len(found.rows), "failed": len(found.failed), "reused": found.reused}
    return {
        "rows": str(out),
        **counts,
        "reasons": reasons(found.failed),
        "dollars": round(found.cost, 6),
        "model": model,
    }


def _progress() -> Any:
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


def train_remote(
    rows: Annotated[Path, typer.Argument(help="Row file, filtered.")],
    out: Annotated[Path, typer.Argument(help="Where the record of the job goes (JSON).")],
    model: Annotated[str, typer.Option(help="tinker:<model>.")],
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the rows.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of an update.")] = 66,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = 2e-4,
    rank: Annotated[int, typer.Option(min=1, help="Of the adapter.")] = 8,
    seed: Annotated[int, typer.Option(help="Of the adapter and of the order of the rows.")] = 0,
    price: Annotated[float, typer.Option(min=0.0, help="Dollars for a million trained tokens.")] = 0.0,
    max_cost: Annotated[
        float | None, typer.Option(help="Dollars that the job may cost at most; needs --price.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost at most, and ask nobody.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Train a student at a service, such as Tinker. What you send leaves this machine."""
    from undertow.data.rows import read_rows
    from undertow.training.services import Cap, RemoteTraining, planned_job, train_remotely, trainer

    given, service = read_rows(rows), trainer(model)
    training = RemoteTraining(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, rank=rank, seed=seed)
    if dry_run:
        bounds = planned_job(service, given, training, price).estimate
        most = {"trained_tokens_at_most": bounds["tokens"], "dollars_at_most": round(bounds["dollars"], 4)}
        tell({"rows": bounds["rows"], **most}, as_json, f"undertow train-remote {rows} {out} --model {model}")
        return
    record = train_remotely(service, given, training, out, Cap(price=price, dollars=max_cost), _show)
    found: dict[str, Any] = {"model": record.trained, "record": str(out), "rows": record.estimate["rows"]}
    tell(
        found,
        as_json,
        f"serve {record.trained}, then: undertow generate rows.jsonl --model api:https://<host>/v1/<model>",
    )


def _show(done: int, total: int) -> None:
    print(f"{done}/{total} steps", file=sys.stderr)
