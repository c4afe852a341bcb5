"""The commands that train students, here or at a service, and what `undertow mitigate train` shares with them."""

import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import undertow
from undertow.cli.forecasts import ForecastOnly, after_loading, announced, say_first, show_plan, time_left
from undertow.cli.options import (
    Json,
    Rows,
    Seed,
    SkipBad,
    StudentsFolder,
    Training,
    prepare,
    quoted,
    read_given,
    student_part,
    tell,
)
from undertow.errors import ConfigError, ModelError
from undertow.seeds import derive
from undertow.store.disk import storage_errors
from undertow.types import Advance, ModelRef, Row, Work

if TYPE_CHECKING:
    from undertow.models.local import LocalModel
    from undertow.study.recipe import StudentPart
    from undertow.training.config import TrainingConfig
    from undertow.training.objective import Penalty


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentsToTrain:
    """Students that are to be trained on the same rows.

    Attributes:
        base: reference of the model from which training starts.
        rows: the training rows, each a prompt and its completion.
        n: how many students are trained.
        seed: random seed from which each student's own is derived.
        out: folder in which each student gets a folder of its own.
    """

    base: str
    rows: Sequence[Row]
    n: int
    seed: int
    out: Path

    @property
    def seeds(self) -> list[int]:
        """The random seed of each student."""
        return [derive(self.seed, "student", index) for index in range(self.n)]

    @property
    def folders(self) -> list[Path]:
        """The folder of each student."""
        from undertow.study.stage_models import student_folder

        return [self.out / student_folder(index) for index in range(self.n)]

    def work(self, recipe: "TrainingConfig") -> Work:
        """Estimate what training the students takes, with the loading of the base."""
        from undertow.evals.forecast import Forecast
        from undertow.training.workload import training_work

        base = Forecast(self.base)
        return after_loading(training_work(base, self.rows, recipe, self.n), self.base, base.loading)

    def train(
        self,
        base: "LocalModel",
        recipe: "TrainingConfig",
        penalty: "Penalty | None" = None,
        advance: Advance | None = None,
    ) -> dict[str, Any]:
        """Train the students at once and save them.

        Args:
            base: the base model, already loaded.
            recipe: settings of the training, such as steps and learning rate.
            penalty: term added to each student's loss. None for none.
            advance: progress callback, called after each update with (updates done, updates in all). None reports
                nothing.

        Returns:
            What is printed: folders, last losses in nats per token, and number of rows.

        Raises:
            ModelError: a loss is not a finite number; nothing is written.
            StorageError: a student cannot be written.
        """
        group = undertow.finetune_parallel(base, [self.rows] * self.n, recipe, self.seeds, advance, penalty)
        losses = group.losses[-10:].mean(dim=0).tolist()
        _refuse_runaway(losses)
        with storage_errors(self.out):
            for index, folder in enumerate(self.folders):
                group.save(index, folder)
        return self.found(losses)

    def found(self, losses: Sequence[float]) -> dict[str, Any]:
        """Return what is printed about trained students with these last losses."""
        folders = [str(folder) for folder in self.folders]
        return {"students": folders, "final_loss": [round(loss, 4) for loss in losses], "rows": len(self.rows)}

    @property
    def following(self) -> str:
        """A useful next command, once the students are saved."""
        from undertow.study.stage_models import made_of

        base = ModelRef.parse(self.base)
        return f"undertow eval '{made_of(base, self.folders[0])}' --base '{base}'"


def adapter_part(settings: list[str], base: str) -> "StudentPart":
    """Return the settings of students that are trained as adapters, and refuse full fine-tuning."""
    part = student_part(settings, base)
    if part.rank is None:
        raise ConfigError("This command trains adapters.", "rank=null", "Set a rank, or use the Python API.")
    return part


def train_command(
    rows: Rows,
    out: StudentsFolder,
    base: Annotated[
        str, typer.Option(help="The model that is trained: ref:NAME (embedded) or hf:PATH_OR_ID. It is not changed.")
    ] = "ref:finch-a",
    students: Annotated[
        int, typer.Option(min=1, help="How many students are trained, each with its own random seed.")
    ] = 1,
    backend: Annotated[
        str | None,
        typer.Option(
            help="What trains: parallel (default) trains all students at once; trl uses TRL's SFTTrainer, one "
            "student after another."
        ),
    ] = None,
    report_to: Annotated[
        list[str],
        typer.Option(
            "--report-to",
            help="For --backend trl: tracker that receives the losses, such as wandb or tensorboard. May be given"
            " several times.",
        ),
    ] = [],  # noqa: B006
    settings: Training = [],  # noqa: B006
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    plan: ForecastOnly = False,
    as_json: Json = False,
) -> None:
    """Train students on a row file.

    A student is a base model with a LoRA adapter. Each is written as an ordinary PEFT adapter folder.
    """
    part = adapter_part([*settings, *([f"backend={backend}"] if backend else [])], base)
    given = read_given(rows, skip_bad)
    from undertow.study.training_record import TrainingRecord

    prepare()
    wanted = StudentsToTrain(base=base, rows=given.rows, n=students, seed=seed, out=out)
    work = [wanted.work(part.training(base))]
    if plan:
        show_plan({"base": base}, work, as_json)
        return
    if part.backend == "trl":
        say_first(work)
        losses = _train_by_trl(wanted, part, report_to)
        if losses is None:  # another process of `accelerate launch` writes and speaks
            return
        found = wanted.found(losses)
    elif report_to:
        fix = "Add --backend trl, or leave --report-to out."
        raise ConfigError("Only the backend trl has trackers.", ", ".join(report_to), fix)
    else:
        with announced(work) as steps, steps.step("students", time_left(work, 0)) as advance:
            found = wanted.train(undertow.load_model(base), part.training(base), advance=advance)
    with storage_errors(out):
        for folder in wanted.folders:
            TrainingRecord(student=part, rows=len(given.rows)).save(folder)
    tell({**found, "bad_lines": len(given.bad)}, as_json, wanted.following)


def _refuse_runaway(losses: Sequence[float]) -> None:
    """Refuse to save students of which one has diverged.

    Raises:
        ModelError: a loss is no finite number.
    """
    if not all(map(isfinite, losses)):
        fix = "Set a lower learning_rate; the student was not written."
        raise ModelError("The training ran away: a student's loss is no finite number.", f"losses {losses}", fix)


def _train_by_trl(wanted: StudentsToTrain, part: "StudentPart", report_to: Sequence[str]) -> list[float] | None:
    """Train students one after another by TRL and save them, in one process or in those of `accelerate launch`.

    Args:
        wanted: the students to train, with their base and rows.
        part: the settings of their training.
        report_to: names of trackers. Those that write files do so in the folder "trackers" beside the adapters.

    Returns:
        Last loss of each student in nats per token. None in every process but the main one.

    Raises:
        MissingExtraError: trl is not installed.
        ConfigError: a batch cannot be shared out evenly.
    """
    from undertow.models.load import default_device
    from undertow.training.trl import TrlOptions, finetune_trl, processes, require_trl

    require_trl()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # TRL's own use of old names
    logging.getLogger("transformers").setLevel(logging.ERROR)
    # Before the model is loaded: each process gets its own GPU.
    main = processes(default_device(ModelRef.parse(wanted.base))).is_main_process
    model = undertow.load_model(wanted.base)
    losses: list[float] = []
    for folder, seed in zip(wanted.folders, wanted.seeds, strict=True):
        options = TrlOptions(
            accumulate=part.accumulate,
            gradient_checkpointing=part.gradient_checkpointing,
            report_to=tuple(report_to),
            run_name=folder.name,
            folder=wanted.out / "trackers" if report_to else None,
        )
        student = finetune_trl(model, wanted.rows, part.training(wanted.base), seed, options)
        losses.append(float(student.losses[-10:].mean()))
        _refuse_runaway(losses)
        with storage_errors(wanted.out):
            student.save(folder)
    return losses if main else None


def train_remote_command(
    rows: Rows,
    out: Annotated[
        Path,
        typer.Argument(
            help="JSON file for the record of the job. The same command with it does not pay for a finished job again."
        ),
    ],
    model: Annotated[str, typer.Option(help="The service and the model to train there, such as tinker:Qwen/Qwen3-8B.")],
    epochs: Annotated[int, typer.Option(min=1, help="How many passes over the rows are made.")] = 3,
    batch_size: Annotated[
        int, typer.Option(min=1, help="How many rows an update takes, or all of them if there are fewer.")
    ] = 66,
    learning_rate: Annotated[
        float, typer.Option(help="Learning rate of Adam at the first update. It falls linearly to 0.")
    ] = 2e-4,
    rank: Annotated[int, typer.Option(min=1, help="Rank of the low-rank adapter (LoRA).")] = 8,
    seed: Annotated[int, typer.Option(help="Random seed of the adapter's start and of the order of the rows.")] = 0,
    price: Annotated[
        float, typer.Option(help="Price in dollars for a million trained tokens, from which the cost is estimated.")
    ] = 0.0,
    max_cost: Annotated[
        float | None, typer.Option(help="Refuse a job that may cost more dollars than this. Needs --price.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print upper bounds of tokens and price, and stop without sending anything."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a student at a service, such as Tinker.

    The rows leave this machine, and the service charges for the training; see --dry-run and --max-cost.
    """
    from undertow.training.services import Cap, RemoteTraining, check_job, train_remotely, trainer

    given, service = read_given(rows).rows, trainer(model)
    training = RemoteTraining(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, rank=rank, seed=seed)
    cap = Cap(price=price, dollars=max_cost)
    if dry_run:
        bounds = check_job(service, given, training, out, cap).estimate
        most = {"trained_tokens_at_most": bounds["tokens"], "dollars_at_most": round(bounds["dollars"], 4)}
        tell(
            {"rows": bounds["rows"], **most},
            as_json,
            f"undertow train-remote {quoted(rows)} {quoted(out)} --model {quoted(model)}",
        )
        return
    record = train_remotely(service, given, training, out, cap, _steps)
    found = {"model": record.trained, "record": str(out), "rows": record.estimate["rows"]}
    following = "undertow generate rows.jsonl --model api:https://<host>/v1/<model>"
    tell(found, as_json, f"serve {record.trained}, then: {following}")


def _steps(done: int, total: int) -> None:
    print(f"{done}/{total} steps", file=sys.stderr)
