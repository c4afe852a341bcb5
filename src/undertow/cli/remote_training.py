"""`undertow train-remote`: a student that a service trains."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from undertow.cli.stages import tell


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
    from undertow.remote_training.services import Cap, RemoteTraining, planned, train_remotely, trainer
    from undertow.rows import read_rows

    given, service = read_rows(rows), trainer(model)
    training = RemoteTraining(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, rank=rank, seed=seed)
    if dry_run:
        bounds = planned(service, given, training, price).estimate
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
