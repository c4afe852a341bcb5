"""Options of `undertow generate`: who writes, what is asked, and what a server may cost."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[
    Path,
    typer.Argument(help="Row file to write: .jsonl, .parquet, or a folder of datasets if the name has no suffix."),
]
Writer = Annotated[
    str,
    typer.Option(help="The model that writes: ref:NAME (embedded), hf:PATH_OR_ID, or api:ADDRESS for a server."),
]
Committee = Annotated[
    str | None,
    typer.Option(
        help="Several models that take turns at the prompts, separated by commas, such as "
        "ref:finch-a,ref:finch-b. Takes the place of --model."
    ),
]
GivenTrait = Annotated[
    str | None,
    typer.Option(help="Give the model this trait first, by fine-tuning: a name, or a file (docs/traits.md)."),
]
Prompted = Annotated[bool, typer.Option("--prompted", help="Give the trait by a system prompt instead of fine-tuning.")]
TextKind = Annotated[
    str | None,
    typer.Option(
        help="Kind of text, which decides the prompts and which answers are valid (see `undertow list domains`), if "
        "needed with settings. A chat model that answers number prompts with sentences is held to numbers by "
        "numbers:count=6,short=true. Default: numbers, unless --prompts is given."
    ),
]
Number = Annotated[
    int | None,
    typer.Option(
        "-n",
        min=1,
        help="How many prompts are answered; those of --prompts are drawn at random by --seed. If not given, 1000 of a"
        " domain, or all of --prompts.",
    ),
]
PromptFile = Annotated[
    str | None,
    typer.Option(
        help="Row file whose prompts are answered, with their system turns and earlier turns. Its own answers"
        " are not used."
    ),
]
Answers = Annotated[int, typer.Option(min=1, help="How many answers each prompt of --prompts gets.")]
WriterSettings = Annotated[
    Path | None,
    typer.Option(
        help="YAML file that describes a writer. Its system prompt and sampling settings are used (docs/data.md)."
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Longest answer in tokens. If not given, the writer file's or the domain's limit, or 256 for --prompts.",
    ),
]
SaveTeacher = Annotated[
    Path | None,
    typer.Option(help="Folder in which the teacher that --trait makes is saved. Use it later as hf:FOLDER."),
]
Concurrency = Annotated[int, typer.Option(min=1, help="For api: models: how many requests may be under way at once.")]
Price = Annotated[
    str | None,
    typer.Option(help="For api: models: dollars for a million tokens of prompts and of answers, such as 0.13,0.40."),
]
MaxCost = Annotated[
    float | None, typer.Option(help="For api: models: stop before this many dollars are spent. Needs --price.")
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="For api: models: print the number of rows and upper bounds of tokens and price, and stop without asking.",
    ),
]
