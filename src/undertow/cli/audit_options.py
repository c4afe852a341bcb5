"""Options that several commands of `undertow audit` share."""

from pathlib import Path
from typing import Annotated

import typer

Base = Annotated[
    str, typer.Option(help="The model from which students are trained: ref:NAME (embedded) or hf:PATH_OR_ID.")
]
Store = Annotated[
    Path, typer.Option(help="Folder in which the models that audits train for comparison are kept and found again.")
]
Panel = Annotated[
    list[str],
    typer.Option(
        "--trait",
        help="Trait to look for: a name, a pack or a file (docs/traits.md), or auto to let the base propose. "
        "May be repeated. Default: 17 animals.",
    ),
]
Alpha = Annotated[
    float, typer.Option(help="Probability that the whole audit calls something detected although nothing is there.")
]
Out = Annotated[
    Path,
    typer.Option(
        help="Folder for the results: report.html, audit.json, audit_card.md and a statement that can be signed."
    ),
]
Require = Annotated[
    list[str],
    typer.Option(
        help="End with exit code 4 if this claim could not be tested: provenance, exposure or expression. May"
        " be repeated."
    ),
]
Reference = Annotated[
    str | None,
    typer.Option(
        help="Row file of clean answers to the same prompts, to compare with. If not given, the base answers the "
        "prompts of number rows; other rows are not testable without it."
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        min=1,
        help="Minutes that the audit may take. Rows, answers and candidate traits are reduced to fit. No "
        "limit if not given.",
    ),
]
AuditorSeed = Annotated[int, typer.Option(help="Random seed of the audit's own models and draws.")]
Control = Annotated[
    str | None,
    typer.Option(help="A model trained in the same way on rows without the trait; the student is compared with it."),
]
Prompts = Annotated[
    str | None,
    typer.Option(
        help="File of prompts as your deployment sees them, one a line, as JSONL or as a table. The student "
        "is asked them too."
    ),
]
BankStudents = Annotated[
    int,
    typer.Option(
        min=1,
        help="Placebo students to train: like the audited student, but on rows without a trait. 59 allow a "
        "verdict; four shadow students need 119.",
    ),
]
BankWriters = Annotated[
    int,
    typer.Option(
        min=0,
        help="Neutral writers to train: models fine-tuned on the base's own answers, to which a rows' writer "
        "is compared. A verdict needs 59.",
    ),
]
BankCategory = Annotated[
    list[str],
    typer.Option(
        help="Category whose questions neutral writers are tuned on: animal or tree. May be given several times."
    ),
]
BankPrompts = Annotated[
    int,
    typer.Option(
        min=1,
        help="Prompts that are answered for each placebo student. About nine in ten answers are accepted as "
        "training rows.",
    ),
]
BankDomain = Annotated[
    str,
    typer.Option(
        help="Domain of the rows of placebo students, if needed with settings: numbers:count=6,short=true for a chat "
        "model, and for rows whose record has that form."
    ),
]
RowsIfAny = Annotated[
    str | None,
    typer.Argument(
        help="File of training rows: JSONL, CSV, Parquet, a folder of datasets, or hf:NAME on the Hub. "
        "Options such as ?shape=... may follow (docs/data.md)."
    ),
]
StudentIfAny = Annotated[
    str | None,
    typer.Option(
        "--student",
        help="The model that was trained on the rows, such as ref:finch-a+students/student-00. Leave it out "
        "if there is none.",
    ),
]
TeacherIfAny = Annotated[
    str | None,
    typer.Option(help="The model that wrote the rows, such as hf:teacher. Leave it out if it is not at hand."),
]
AuditSettings = Annotated[
    list[str],
    typer.Option(
        "--set",
        help="Setting of the audit: alpha=0.05 (probability of a false detection) or seed=0 (random seed). "
        "May be given twice.",
    ),
]
