"""The audit benchmark: make one, run our own stages on it, score any detector's submissions."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from undertow.cli.audits import STORE, Store
from undertow.types import Advance

Folder = Annotated[Path, typer.Argument(help="Folder of the benchmark.")]

bench = typer.Typer(no_args_is_help=True, help="A benchmark for detectors of hidden traits: make, run, score.")


@contextmanager
def _shown(name: str) -> Generator[Advance]:
    from undertow.cli.engines import prepare
    from undertow.store.progress import choose_progress

    prepare()
    progress = choose_progress()
    progress.start(1)
    progress.begin_stage(name, 0, 1)
    try:
        yield progress.advance
        progress.end_stage()
    finally:
        progress.close()


@bench.command()
def make(
    folder: Folder,
    base: Annotated[str, typer.Option(help="The model that would be trained on the rows.")] = "ref:finch-a",
    seed: Annotated[int, typer.Option(help="Of everything, a part of the key; a large one cannot be guessed.")] = 0,
    rows: Annotated[int | None, typer.Option(min=20, help="Of each case; 300, or 100 with --quick.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few cases, to try it.")] = False,
) -> None:
    """Write row files whose writers only the key names, with clean rows to compare them with."""
    from undertow.audit.benchmark.cases import Design
    from undertow.audit.benchmark.cases import make_benchmark as make_bench

    design = Design.quick(base, seed, rows or 100) if quick else Design(base=base, seed=seed, rows=rows or 300)
    with _shown("writers") as advance:
        made = make_bench(folder, design, advance)
    print(f"{len(made.ids)} cases of {made.rows} rows in {folder}; SHA-256 of the key {made.key_sha256}")
    print(f"truth.json is the key: move it away before others see the folder.\nnext: undertow audit bench run {folder}")


@bench.command()
def run(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Folder of the submissions.")] = Path("submissions"),
    seed: Annotated[int, typer.Option(help="The auditor's own.")] = 0,
    store: Store = STORE,
    shadows: Annotated[
        bool, typer.Option("--shadows", help="Train shadow students too; needs a bank and 1,400 rows a case.")
    ] = False,
) -> None:
    """Run our own stages on every case, without the key; interrupted, it goes on with the next case."""
    from undertow.audit.benchmark.files import read_benchmark

    cases = read_benchmark(folder)
    from undertow.audit.benchmark.detectors import Settings
    from undertow.audit.benchmark.detectors import run_detectors as run_stages

    with _shown("cases") as advance:
        paths = run_stages(cases, out, Settings(seed=seed, store=store, shadows=shadows), advance)
    print("\n".join(map(str, paths)))
    print(f"next: undertow audit bench score {folder} {out}/*.jsonl")


@bench.command()
def score(
    folder: Folder,
    submissions: Annotated[list[Path], typer.Argument(help="Answers of detectors (JSONL).")],
    key: Annotated[Path | None, typer.Option(help="The key; truth.json in the folder if not given.")] = None,
    alpha: Annotated[float, typer.Option(help="Level at which a case counts as called.")] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Print, for each detector, false positives, power and what it calls by mistake, as Markdown."""
    from undertow.audit.benchmark.files import read_benchmark, read_key, read_submission
    from undertow.audit.benchmark.scoring import SCHEMA, markdown
    from undertow.audit.benchmark.scoring import score_submission as score_one

    cases = read_benchmark(folder)
    truth = read_key(cases, key)
    found = [score_one(cases, truth, read_submission(path, cases.ids), alpha) for path in submissions]
    if as_json:
        print(json.dumps({"schema": SCHEMA, "detectors": [one.to_json() for one in found]}, allow_nan=False))
        return
    print("\n\n".join(map(markdown, found)))
