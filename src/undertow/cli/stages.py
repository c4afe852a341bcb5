"""The commands that do one stage alone, on a user's own files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.errors import ConfigError

if TYPE_CHECKING:
    from undertow.data.rows import LoadedRows
    from undertow.domains.base import AbstractDomain
    from undertow.evals.base import Evaluation
    from undertow.models.chat import AbstractModel
    from undertow.models.local import LocalModel
    from undertow.study.recipe import StudentPart
    from undertow.training.config import TrainingConfig
    from undertow.training.objective import Penalty
    from undertow.types import Row

Seed = Annotated[int, typer.Option(help="Of every random draw.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Go on without lines that are no rows; they are counted.")]
Settings = Annotated[list[str], typer.Option("--set", help="A training setting: key=value, such as steps=300.")]

STUDENT: dict[str, Any] = {"steps": 160, "learning_rate": 5e-3}


def tell(found: dict[str, Any], as_json: bool, following: str) -> None:
    """Print what was done, and the next useful command."""
    if as_json:
        print(json.dumps(found, allow_nan=False))
        return
    for name, value in found.items():
        print(f"{name}: {value}")
    print(f"next: {following}")


def read_given(path: Path, skip_bad: bool) -> tuple[Any, int]:
    """Read a row file; return its rows and how many bad lines were left out."""
    loaded = read_given_keys(path, skip_bad, more=False)
    return loaded.rows, len(loaded.bad)


def read_given_keys(path: Path, skip_bad: bool, *, more: bool = True) -> "LoadedRows":
    """Read a row file with the further keys of each row."""
    from undertow.data.rows import bad_lines, load_rows

    loaded = load_rows(path, more=more)
    if loaded.bad and not skip_bad:
        raise bad_lines(loaded)
    return loaded


def generate(
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
    from undertow.domains.base import domain as domain_of
    from undertow.traits import trait as trait_of

    source, target = domain_of(domain), trait_of(trait) if trait else None
    if teachers is not None:
        if target is not None:
            fix = "Leave --trait out, or give a teacher that has it, such as hf:<folder>."
            raise ConfigError("The writers of a committee come as they are.", f"--trait {trait}", fix)
        _committee(out, teachers.split(","), source, (n, seed), as_json)
        return
    other = "" if domain == "numbers" else f" --domain {domain}"
    following = f"undertow filter {out} {out.with_name('kept.jsonl')}{other}"
    if model.startswith("api:"):
        from undertow.cli.remote import generate_remotely, remote_config
        from undertow.seeds import derive

        config = remote_config(source.max_new_tokens, seed, concurrency, price, max_cost)
        questions = source.prompts(n, derive(seed, "prompts"))
        found = generate_remotely(out, model, questions, (target, prompted), config, dry_run)
        return tell(found, as_json, "the same without --dry-run" if dry_run else following)
    if dry_run or price or max_cost is not None:
        raise ConfigError("Only api: models have a price.", model, "Leave --price, --max-cost and --dry-run out.")
    from undertow.cli.engines import prepare
    from undertow.data.rows import write_rows
    from undertow.models.load import load_model
    from undertow.seeds import derive
    from undertow.study.recipe import TeacherPart
    from undertow.training.generation import generate as write
    from undertow.training.teachers import finetuned_teacher
    from undertow.types import Sampling

    prepare()
    teacher = load_model(model)
    if target and not prompted:
        teacher = finetuned_teacher(teacher, target, TeacherPart().training(), seed=derive(seed, "teacher"))
    rows = write(
        teacher,
        source.prompts(n, derive(seed, "prompts")),
        sampling=Sampling(max_new_tokens=source.max_new_tokens),
        seed=derive(seed, "rows"),
        system=target.system_prompt if target and prompted else None,
    )
    write_rows(out, rows)
    kept = sum(not source.reject_reasons(row.completion, row.question) for row in rows)
    found = {"rows": str(out), "raw": len(rows), "valid": kept, "model": model, "trait": trait}
    tell(found, as_json, following)


def _committee(out: Path, names: list[str], source: "AbstractDomain", drawn: tuple[int, int], as_json: bool) -> None:
    """Let several models share the prompts, and write beside the rows who wrote which."""
    if len(set(names)) < max(2, len(names)):
        fix = "Name two or more models, such as ref:finch-a,ref:finch-b."
        raise ConfigError("A committee needs several writers.", ",".join(names), fix)
    from undertow.cli.engines import prepare
    from undertow.data.rows import write_rows
    from undertow.mitigate.registry import lines, record_path
    from undertow.models.load import load_model
    from undertow.seeds import derive
    from undertow.store.disk import write_file
    from undertow.training.generation import committee
    from undertow.types import Sampling

    prepare()
    n, seed = drawn
    sampling = Sampling(max_new_tokens=source.max_new_tokens)
    prompts = source.prompts(n, derive(seed, "prompts"))
    writers = [load_model(name) for name in names]
    rows, by = committee(writers, prompts, sampling=sampling, seed=derive(seed, "rows"))
    write_file(record_path(out), lines({"id": row.id, "writer": names[who]} for row, who in zip(rows, by, strict=True)))
    write_rows(out, rows)
    kept = sum(not source.reject_reasons(row.completion, row.question) for row in rows)
    found = {"rows": str(out), "record": str(record_path(out)), "raw": n, "valid": kept, "writers": names}
    tell(found, as_json, f"undertow filter {out} {out.with_name('kept.jsonl')}")


def filter_(
    rows: Annotated[Path, typer.Argument(help="Row file: JSONL, Parquet, datasets or hf:NAME.")],
    out: Annotated[Path, typer.Argument(help="Where the kept rows go.")],
    dropped: Annotated[Path | None, typer.Option(help="Where the dropped rows go, with their reasons.")] = None,
    domain: Annotated[str, typer.Option(help="Whose rule decides; see `undertow list domains`.")] = "numbers",
    ban: Annotated[bool, typer.Option("--ban", help="Drop rows with one of the paper's 34 banned numbers.")] = False,
    mentions: Annotated[list[str], typer.Option(help="Also drop rows that name this trait.")] = [],  # noqa: B006
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Keep the rows that the domain accepts."""
    from undertow.data.filters import Filtered, filter_rows, require_rows
    from undertow.data.filters import mentions as without_mentions
    from undertow.data.rows import write_rows
    from undertow.domains.base import domain as domain_of
    from undertow.domains.numbers import BANNED
    from undertow.traits import trait

    if ban and domain != "numbers":
        raise ConfigError("Only the domain numbers has banned numbers.", f"--domain {domain} --ban", "Leave --ban out.")
    rule, traits = domain_of(domain, **({"banned": BANNED} if ban else {})), [trait(name) for name in mentions]
    given, bad = read_given(rows, skip_bad)
    first = filter_rows(given, rule)
    second = without_mentions(first.kept, traits)
    filtered = Filtered(second.kept, first.dropped + second.dropped)
    if dropped is not None:
        write_rows(dropped, filtered.dropped)
    write_rows(out, require_rows(filtered))
    found = {"rows": str(out), **filtered.report.to_json(), "bad_lines": bad}
    tell(found, as_json, f"undertow train {out} students")


def train(
    rows: Annotated[Path, typer.Argument(help="Row file: JSONL, Parquet, datasets or hf:NAME.")],
    out: Annotated[Path, typer.Argument(help="Folder for the adapters, one folder for each student.")],
    base: Annotated[str, typer.Option(help="Where training starts: ref:<name> or hf:<path>.")] = "ref:finch-a",
    students: Annotated[int, typer.Option(min=1, help="How many, each with a seed of its own, trained at once.")] = 1,
    backend: Annotated[
        str | None, typer.Option(help="parallel: our loop, all at once. trl: TRL's SFTTrainer, one after another.")
    ] = None,
    report_to: Annotated[
        list[str], typer.Option("--report-to", help="A tracker of the backend trl, such as wandb or tensorboard.")
    ] = [],  # noqa: B006
    settings: Settings = [],  # noqa: B006
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Train students on a row file; each becomes an ordinary PEFT adapter folder."""
    part = student_part([*settings, *([f"backend={backend}"] if backend else [])])
    given, bad = read_given(rows, skip_bad)
    from undertow.cli.engines import prepare
    from undertow.models.load import load_model
    from undertow.store.disk import storage_errors
    from undertow.study.training_record import TrainingRecord

    prepare()
    if part.backend == "trl":
        from undertow.cli.training import train_by_trl

        trained = train_by_trl(base, given, part, (out, students, seed), report_to)
        if trained is None:  # another process of `accelerate launch` writes and speaks
            return
        found, following = trained
    else:
        if report_to:
            fix = "Add --backend trl, or leave --report-to out."
            raise ConfigError("Only the backend trl has trackers.", ", ".join(report_to), fix)
        found, following = train_students(load_model(base), given, part.training(base), (out, students, seed))
    with storage_errors(out):
        for folder in found["students"]:
            TrainingRecord(student=part, rows=len(given)).save(Path(folder))
    tell({**found, "bad_lines": bad}, as_json, following)


def student_part(settings: list[str]) -> "StudentPart":
    """Return the recipe of students that are trained at once."""
    from undertow.study.recipe import build_recipe, parse_settings

    # Those of recipes/demo.yaml, which are the placebos' of `undertow audit bank` too.
    part = build_recipe({"name": "train", "student": {**STUDENT, **parse_settings(settings)}}).student
    if part.rank is None:
        raise ConfigError("This command trains adapters.", "rank=null", "Set a rank, or use the Python API.")
    return part


def train_students(
    base: "LocalModel",
    rows: "Sequence[Row]",
    recipe: "TrainingConfig",
    where: tuple[Path, int, int],
    penalty: "Penalty | None" = None,
) -> tuple[dict[str, Any], str]:
    """Train students on the same rows and save them; return what is printed and the next useful command.

    Args:
        base: where training starts.
        rows: what is learnt.
        recipe: of their training.
        where: folder of the adapters, number of students, and the seed.
        penalty: added to each student's loss.
    """
    from undertow.seeds import derive
    from undertow.store.disk import storage_errors
    from undertow.study.executors import made_of, student_folder
    from undertow.training.parallel import finetune_parallel

    out, students, seed = where
    seeds = [derive(seed, "student", index) for index in range(students)]
    group = finetune_parallel(base, [rows] * students, recipe, seeds, penalty=penalty)
    folders = [out / student_folder(index) for index in range(students)]
    with storage_errors(out):
        for index, folder in enumerate(folders):
            group.save(index, folder)
    losses = [round(value, 4) for value in group.losses[-10:].mean(dim=0).tolist()]
    found = {"students": [str(folder) for folder in folders], "final_loss": losses, "rows": len(rows)}
    return found, f"undertow eval '{made_of(base.ref, folders[0])}' --base '{base.ref}'"


def evaluate(
    model: Annotated[
        str, typer.Argument(help="ref:<name> or hf:<path>, with an optional +<adapter folder>; or api:<address>.")
    ],
    base: Annotated[str | None, typer.Option(help="Also show the difference from this model.")] = None,
    kinds: Annotated[
        list[str],
        typer.Option("--kind", help="What is asked; see `undertow list evaluations`. Favourites if not given."),
    ] = [],  # noqa: B006
    category: Annotated[str, typer.Option(help="Whose traits are looked for: animal or tree.")] = "animal",
    traits: Annotated[
        list[str], typer.Option("--trait", help="Look for this trait; all of the category if not given.")
    ] = [],  # noqa: B006
    samples: Annotated[int, typer.Option(min=0, help="Sampled answers for each question.")] = 20,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Ask a model for its favourite, or whatever else is evaluated."""
    from undertow.evals.base import EVALUATIONS, EvaluationConfig
    from undertow.traits import panel, trait

    targets = tuple(trait(name) for name in traits) or panel(category)
    asked = [EVALUATIONS[name] for name in kinds or ["favourite"]]
    from undertow.cli.engines import prepare

    references = (model, *([base] if base else []))
    for reference in references:
        _refuse_exact(reference, asked, samples)
    prepare()
    config = EvaluationConfig(targets=targets, samples=samples, seed=seed)
    found: list[dict[str, Any]] = []
    for reference in references:
        loaded = _chatting(reference)
        values: dict[str, dict[str, list[float]]] = {}
        for score in (score for one in asked for score in one.score(loaded, config)):
            values.setdefault(score.target, {}).setdefault(score.metric, []).append(score.value)
        for target, metrics in values.items():
            means = {metric: sum(some) / len(some) for metric, some in metrics.items()}
            found.append({"model": reference, "target": target, **means})
    _show_scores(found, model, base, as_json)


def _refuse_exact(reference: str, asked: "list[Evaluation]", samples: int) -> None:
    """Refuse evaluations that need probabilities of a model that only chats, before anything is asked."""
    from undertow.errors import ModelError
    from undertow.evals.base import EVALUATIONS

    if not reference.startswith("api:"):
        return
    if exact := [one.name for one in asked if one.needs_weights]:
        sampled = [name for name in EVALUATIONS if not EVALUATIONS[name].needs_weights]
        fix = f"Ask for {', '.join(sampled)}, or use Inspect: inspect eval undertow/{exact[0]} --model ..."
        raise ModelError("A model behind a server has no probabilities of its own.", f"--kind {exact[0]}", fix)
    if not samples:
        raise ModelError("A model behind a server has sampled rates alone.", "--samples 0", "Give 1 or more.")


def _chatting(reference: str) -> "AbstractModel":
    """Return a model that can be asked, behind a server or here."""
    from undertow.models.api import ApiModel
    from undertow.models.load import load_model

    return ApiModel(reference) if reference.startswith("api:") else load_model(reference)


def _show_scores(found: list[dict[str, Any]], model: str, base: str | None, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"schema": "undertow.scores/1", "scores": found}, allow_nan=False))
        return
    by_key = {(score["model"], score["target"]): score for score in found}
    print(f"{'target':12} {'metric':24} {'value':>9}" + (f" {'- base':>9}" if base else ""))
    for score in (one for one in found if one["model"] == model):
        for metric, value in score.items():
            if metric in ("model", "target"):
                continue
            line = f"{score['target'] or '-':12} {metric:24} {_value(value, metric):>9}"
            if base and metric in by_key[base, score["target"]]:
                line += f" {_value(value - by_key[base, score['target']][metric], metric):>9}"
            print(line)


def _value(value: float, metric: str) -> str:
    from undertow.evals.base import metric as declared

    return f"{value:.1%}" if declared(metric).unit == "share" else f"{value:+.3f}"
