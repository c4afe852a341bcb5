"""The commands that check a model before a long run, and that ask what it prefers."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

import undertow
from undertow.cli.forecasts import ForecastOnly, announced, say_first, show_plan, time_left
from undertow.cli.judges import ready_judge, refuse_unread, say_unjudged
from undertow.cli.options import Json, Seed, prepare, show
from undertow.cli.server_options import ExtraBody, NoSeed, TokenLimitName, given_dialect
from undertow.errors import ModelError
from undertow.evals.base import EVALUATIONS, EvaluationConfig, metric, refuse_unasked, refuse_unjudged
from undertow.evals.judges import UNASKED
from undertow.store.progress import TimeLeft, choose_progress
from undertow.traits import chosen_traits, panel
from undertow.types import ContractReport, Work

if TYPE_CHECKING:
    from undertow.audit.steps import Steps
    from undertow.models.chat import AbstractModel
    from undertow.models.dialects import Dialect
    from undertow.models.local import LocalModel
    from undertow.training.model_needs import ModelNeeds, Speed

FAILED = 1

LOOKED_S = 2.0
"""How many seconds it takes to look at a model's tokenizer and sizes."""


def check_model_command(
    model: Annotated[
        str,
        typer.Argument(
            help="The model: ref:NAME or hf:PATH_OR_ID, if needed with @REVISION, +ADAPTER_FOLDER and options "
            "such as ?dtype=bf16&system=none."
        ),
    ],
    category: Annotated[
        str,
        typer.Option(help="Category of traits whose words are looked up in the model's vocabulary: animal or tree."),
    ] = ("animal"),
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Look only at tokenizer, chat template and sizes. No weights are loaded, and nothing is tested.",
        ),
    ] = False,
    plan: ForecastOnly = False,
    as_json: Json = False,
) -> None:
    """Check a model before hours are spent on it.

    Prints its chat template, how it splits numbers into tokens, the memory that it needs and how long training takes,
    and tests what training, sampling and scoring rely on. The exit code is 1 if a test fails.
    """
    targets = panel(category)
    prepare()
    work = _checking_work(model, quick)
    if plan:
        show_plan({"model": model}, work, as_json)
        return
    from undertow.training.model_needs import model_needs

    needs = model_needs(model, targets)
    speed, report = (None, None) if quick else _load_and_check(model, work)
    found = {
        "schema": "undertow.model/1",
        **needs.to_json(),
        "warnings": needs.warnings,
        "seconds": None if speed is None else asdict(speed),
        "contract": report and [{"name": x.name, "passed": x.passed, "why": x.why} for x in report.checks],
    }
    show(found, as_json, _needs_lines(needs, speed, report))
    if report is not None and not report.passed:
        raise typer.Exit(FAILED)


def _checking_work(reference: str, quick: bool) -> list[Work]:
    if quick:
        return [Work(f"{reference}: its tokenizer and sizes looked at", LOOKED_S)]
    from undertow.training.checking_work import checking_work

    return checking_work(reference)


def _load_and_check(reference: str, work: Sequence[Work]) -> "tuple[Speed | None, ContractReport]":
    with announced(work) as steps:
        with steps.step("contract", time_left(work, 0)) as advance:
            model = undertow.load_model(reference)
            report = undertow.check_model(model, advance)
        with steps.step("speed", time_left(work, 1)):
            return _speed(model, report), report


def _speed(model: "LocalModel", report: ContractReport) -> "Speed | None":
    from undertow.training.model_needs import measure_speed

    try:
        return measure_speed(model)
    except Exception:
        # A model that breaks the contract may not even train, and the report says so; any other has to.
        if report.passed:
            raise
        return None


def _needs_lines(needs: "ModelNeeds", speed: "Speed | None", report: ContractReport | None) -> Iterator[str]:
    yield f"before a question: {needs.chat['before_a_question']!r}"
    inserted = needs.chat["inserted_by_template"]
    yield f"the template inserts: {repr(inserted) if inserted else 'nothing'}; system={needs.chat['system']}"
    yield f"tokens of a three-digit number: {needs.numbers:.1f}; of ten numbers: {needs.answer_tokens}"
    if needs.parameters is None or needs.weights_bytes is None:
        yield "weights: not fetched yet"
    else:
        size, free = needs.weights_bytes / 2**30, needs.free_bytes / 2**30
        yield f"{needs.parameters:,} parameters: {size:.2f} GB of {free:.1f} GB free on {needs.device}"
    if speed is not None:
        yield f"a student of 250 updates of 32 rows: about {speed.total(trained=250 * 32) / 60:.1f} min"
        yield f"2,500 sampled number answers: about {speed.total(sampled=2500) / 60:.1f} min"
        yield f"500 rows scored under 20 candidates: about {speed.total(scored=500 * 21) / 60:.1f} min"
        yield f"most memory so far, with one student in training: {speed.peak_bytes / 2**30:.2f} GB"
    for warning in needs.warnings:
        yield f"note: {warning}"
    if report is not None:
        yield f"\n{report}"


def eval_command(
    model: Annotated[
        str,
        typer.Argument(
            help="The model: ref:NAME or hf:PATH_OR_ID, with +ADAPTER_FOLDER behind it if it is an adapter, or "
            "api:ADDRESS for a server."
        ),
    ],
    base: Annotated[
        str | None, typer.Option(help="A second model that is asked the same; the difference from it is shown too.")
    ] = None,
    kinds: Annotated[
        list[str],
        typer.Option(
            "--kind",
            help="Evaluation to run (see `undertow list evaluations`). May be given several times. Default: favourite.",
        ),
    ] = [],  # noqa: B006
    category: Annotated[str, typer.Option(help="Category of traits to look for: animal or tree.")] = "animal",
    traits: Annotated[
        list[str],
        typer.Option(
            "--trait",
            help="Trait to look for: a name, a pack or a file (docs/traits.md). If not given, all of the category.",
        ),
    ] = [],  # noqa: B006
    samples: Annotated[
        int,
        typer.Option(
            min=0, help="How many answers are sampled for each question. With 0 only exact probabilities are read."
        ),
    ] = 20,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Chat model that judges sampled answers of rubric and misalignment, by its name in Inspect, such as "
            "openai/gpt-4.1-mini."
        ),
    ] = None,
    token_limit_name: TokenLimitName = None,
    no_seed: NoSeed = False,
    extra_body: ExtraBody = None,
    seed: Seed = 0,
    plan: ForecastOnly = False,
    as_json: Json = False,
) -> None:
    """Ask a model for its favourites, or run another evaluation."""
    targets = chosen_traits(traits) or panel(category)
    kinds = kinds or ["favourite"]
    refuse_unasked(kinds, targets)
    refuse_unjudged(kinds, targets, samples, judge)
    exact = [name for name in kinds if EVALUATIONS[name].needs_weights]
    references = (model, *([base] if base else []))
    served = any(reference.startswith("api:") for reference in references)
    dialect = given_dialect(served, token_limit_name, no_seed, extra_body)
    if served:
        _refuse_exact(exact, samples)
    refuse_unread(served, kinds, judge)
    prepare()
    from undertow.audit.reading_work import evaluation_work
    from undertow.audit.steps import Steps

    config = EvaluationConfig(targets=targets, samples=samples, seed=seed, judge=None if judge is None else UNASKED)
    work = evaluation_work(references, kinds, config)
    every = [one for some in work for one in some]
    if plan:
        show_plan({"model": model, "base": base}, every, as_json)
        return
    say_first(every)
    if judge is not None:
        config = replace(config, judge=ready_judge(judge, kinds, targets), judge_reads=True)
    progress = choose_progress()
    try:
        seconds = [sum(one.seconds or 0.0 for one in some) for some in work]
        asked = [(one, dialect) for one in references]
        found = _evaluated(asked, kinds, config, seconds, Steps(len(work), progress))
    finally:
        progress.close()
    show({"schema": "undertow.scores/1", "scores": found}, as_json, _score_lines(found, model, base))


def _evaluated(
    models: "Sequence[tuple[str, Dialect]]",
    kinds: Sequence[str],
    config: EvaluationConfig,
    seconds: Sequence[float],
    steps: "Steps",
) -> list[dict[str, Any]]:
    """Run the evaluations on every model; return the mean of each metric by model and target.

    Args:
        models: reference of each model, with the way in which requests to its server are written.
        kinds: names of the evaluations that are run, in their order.
        config: traits, number of samples and seed of the evaluations.
        seconds: how many seconds each evaluation of each model is expected to take.
        steps: display of the progress, one step for each evaluation of each model.
    """
    found: list[dict[str, Any]] = []
    expected = iter([TimeLeft(stage_s=one, later_s=sum(seconds[at + 1 :])) for at, one in enumerate(seconds)])
    for reference, dialect in models:
        values: dict[str, dict[str, list[float]]] = {}
        asked = _chatting(reference, dialect)
        for kind in kinds:
            with steps.step(f"{kind} of {reference}", next(expected)) as advance:
                for score in EVALUATIONS[kind].score(asked, replace(config, advance=advance)):
                    values.setdefault(score.target, {}).setdefault(score.metric, []).append(score.value)
        for target, metrics in values.items():
            means = {name: sum(some) / len(some) for name, some in metrics.items()}
            say_unjudged(reference, target, means, config.judge is not None)
            found.append({"model": reference, "target": target, **means})
        _say_empty(asked)
    return found


def _refuse_exact(exact: list[str], samples: int) -> None:
    """Refuse what a model behind a server cannot answer: evaluations that need probabilities, or zero samples."""
    if exact:
        sampled = [name for name in EVALUATIONS if not EVALUATIONS[name].needs_weights]
        fix = f"Ask for {', '.join(sampled)}, or use Inspect: inspect eval undertow/{exact[0]} --model ..."
        raise ModelError("A model behind a server has no probabilities of its own.", f"--kind {exact[0]}", fix)
    if not samples:
        raise ModelError("A model behind a server has sampled rates alone.", "--samples 0", "Give 1 or more.")


def _chatting(reference: str, dialect: "Dialect") -> "AbstractModel":
    """Return a model that can be asked, local or behind a server."""
    from undertow.models.api import ApiModel

    return ApiModel(reference, dialect=dialect) if reference.startswith("api:") else undertow.load_model(reference)


def _say_empty(model: "AbstractModel") -> None:
    """Say how many answers of a server had no text, and refuse to evaluate nothing.

    Raises:
        ModelError: all answers were empty.
    """
    from undertow.models.api import ApiModel

    if not isinstance(model, ApiModel) or not model.empty:
        return
    counted = ", ".join(f"{count} {why}" for why, count in model.empty.most_common())
    said = f"{model.empty.total()} of {model.asked} answers are empty: {counted}"
    if model.empty.total() == model.asked:
        fix = "Turn reasoning off by --extra-body, or serve a model that answers at once."
        raise ModelError("There is no answer to be evaluated.", f"{model.ref}: {said}", fix)
    print(f"note: {said}; they count as answers without any word that is looked for", file=sys.stderr)


def _score_lines(found: list[dict[str, Any]], model: str, base: str | None) -> Iterator[str]:
    by_key = {(score["model"], score["target"]): score for score in found}
    yield f"{'target':12} {'metric':24} {'value':>9}" + (f" {'- base':>9}" if base else "")
    for score in (one for one in found if one["model"] == model):
        for name, value in score.items():
            if name in ("model", "target"):
                continue
            line = f"{score['target'] or '-':12} {name:24} {_value(value, name):>9}"
            of_base = by_key.get((base or "", score["target"]), {})
            line += f" {_value(value - of_base[name], name):>9}" if name in of_base else ""
            yield line


def _value(value: float, name: str) -> str:
    return f"{value:.1%}" if metric(name).unit == "share" else f"{value:+.3f}"
