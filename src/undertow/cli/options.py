"""Options that mean the same in every command, the set-up of libraries, and output."""

import json
import logging
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.data.reading import ReadingReport, split_source
from undertow.data.rows import BAD_LINES_SHOWN, BadLine, LoadedRows, bad_lines, bad_rows, load_rows, open_rows
from undertow.data.shapes import NAMES
from undertow.data.tables import HUB
from undertow.errors import ConfigError
from undertow.store.progress import Progress, SilentProgress, choose_progress
from undertow.types import Row

if TYPE_CHECKING:
    from undertow.study.recipe import StudentPart

Json = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on standard output, and nothing else there.")
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", help="Show no progress while the command works. Results and errors are still printed."),
]
Rows = Annotated[
    str,
    typer.Argument(
        help="File of training rows: JSONL, CSV, Parquet, a folder of datasets, or hf:NAME on the Hub. "
        "Options such as ?shape=... may follow (docs/data.md)."
    ),
]
Seed = Annotated[
    int,
    typer.Option(help="Random seed of everything that the command draws. The same seed gives the same result again."),
]
SkipBad = Annotated[
    bool,
    typer.Option(
        "--skip-bad",
        help="Leave out lines that cannot be read as rows, and count them. By default such a line stops the command.",
    ),
]
StudentsFolder = Annotated[
    Path, typer.Argument(help="Folder for the trained students. Each becomes a PEFT adapter in a folder of its own.")
]
Training = Annotated[
    list[str],
    typer.Option(
        "--set",
        help="Change a setting of the training, as KEY=VALUE, such as steps=300 or rank=4. May be given several times.",
    ),
]

STORE = Path("runs/store")

PLACEBOS = 120
"""How many placebo students a new bank gets. An audit of three claims at .05 with four shadow students needs 119, and
210 would find a shift that is smaller by only a twentieth."""


def prepare() -> None:
    """Keep other libraries from printing into our output, and from starting more threads than help."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # for processes that this one starts
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL would tell the Hub of every trainer
    import torch
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    if "OMP_NUM_THREADS" not in os.environ:
        # Two threads were as fast as any number on models of width 64, and leave the machine usable.
        torch.set_num_threads(min(2, os.cpu_count() or 1))


def read_given(source: str | os.PathLike[str], skip_bad: bool = False, *, more: bool = False) -> LoadedRows:
    """Read a row file, and print on standard error what was read unless its rows are plainly in our own format.

    Args:
        source: name of the file, with the options of its reading (docs/data.md).
        skip_bad: whether lines that cannot be read as rows are left out. Otherwise they are an error.
        more: whether further keys of each row are read too.

    Raises:
        RowsError: the file cannot be read, or has bad lines.
    """
    loaded = load_rows(source, more=more)
    if loaded.bad and not skip_bad:
        raise bad_lines(loaded)
    if not loaded.report.plain:
        print(loaded.report, file=sys.stderr)
    if loaded.bad:
        error = bad_lines(loaded)
        print(f"{error.what} Left out: {error.value}", file=sys.stderr)
    return loaded


class Passing:
    """A row file whose rows are read one by one, so that the whole of it need not fit into memory.

    When the last row has passed, it prints what `read_given` prints.

    Attributes:
        rows: how many good rows have been read so far.
        bad: how many bad lines have been read so far.
    """

    def __init__(self, source: str | os.PathLike[str], skip_bad: bool = False, *, more: bool = False) -> None:
        """Open a row file.

        Args:
            source: name of the file, with the options of its reading (docs/data.md).
            skip_bad: whether lines that cannot be read as rows are left out. Otherwise they are an error.
            more: whether further keys of each row are read too.
        """
        self.rows = self.bad = 0
        self._source, self._skip_bad, self._more = source, skip_bad, more

    def __iter__(self) -> Iterator[tuple[Row, Mapping[str, object]]]:
        """Yield each good row with its further keys.

        Raises:
            RowsError: the file cannot be read, or its last line was reached and some lines were bad.
        """
        report, first, about_id = ReadingReport(), list[BadLine](), False
        for one in open_rows(self._source, more=self._more, report=report):
            if isinstance(one, BadLine):
                self.bad, about_id = self.bad + 1, about_id or one.about_id
                first = [*first, one][:BAD_LINES_SHOWN]
            else:
                self.rows += 1
                yield one
        error = bad_rows(first, self.bad, self.bad + self.rows, about_id) if self.bad else None
        if error is not None and not self._skip_bad:
            raise error
        if not report.plain:
            print(report, file=sys.stderr)
        if error is not None:
            print(f"{error.what} Left out: {error.value}", file=sys.stderr)


def refuse_replacing(out: str | os.PathLike[str], *sources: str | os.PathLike[str] | None) -> None:
    """Refuse to write a file that the same command reads or has written, however its name is spelled.

    Args:
        out: name of the file that is to be written.
        sources: names of the files that are read, with their options, and of other files that are written. None is
            ignored.

    Raises:
        ConfigError: the file is one of them.
    """
    for source in sources:
        name = "" if source is None else split_source(source, NAMES)[0]
        name = name.removeprefix(HUB) if os.path.exists(name.removeprefix(HUB)) else name
        if name and (os.path.realpath(name) == os.path.realpath(out) or _is_same(name, out)):
            fix = f"Give another name, such as {quoted(free_name(Path(out)))}."
            raise ConfigError("This would replace the rows that it is made of.", f"{out} is {source}", fix)


def _is_same(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Tell whether two names mean the same file on disk."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def student_part(settings: list[str], base: str) -> "StudentPart":
    """Return the settings of students: those of the demo (recipes/demo.yaml) with these changes.

    A large base takes those of the study `real-numbers` in their place (`undertow.training.own_models`).

    Placebo students have the same settings, so that a student that is trained with them can be compared.

    Args:
        settings: the values of --set, as KEY=VALUE.
        base: reference of the model that students start from.

    Raises:
        ConfigError: a value is not valid, or the students would learn by another channel than rows.
        UnknownNameError: there is no such setting.
    """
    from undertow.models.load import parameters_of
    from undertow.study.recipe import build_recipe, parse_settings
    from undertow.training.channels.settings import ROWS
    from undertow.training.own_models import own_student

    usual = own_student(parameters_of(base))
    own = {name: getattr(usual, name) for name in ("steps", "batch_size", "learning_rate")}
    asked = {"name": "students", "teacher": {"control": "neutral"}, "student": {**own, **parse_settings(settings)}}
    part = build_recipe(asked).student
    if part.channel != ROWS:
        fix = "Leave channel out, or train by it in a recipe (`undertow run demo --set student.channel=...`)."
        raise ConfigError("Students of this command learn rows.", f"channel={part.channel.name}", fix)
    return part


def shown_progress(silent: bool) -> Progress:
    """Return the display of a run's progress, or one that shows nothing."""
    return SilentProgress() if silent else choose_progress()


def quoted(path: str | os.PathLike[str]) -> str:
    """Return a path quoted for a shell, for commands that are shown to the user."""
    return shlex.quote(str(path))


def free_name(path: Path) -> Path:
    """Return this path or, if it exists, the first free one of kept-2.jsonl, kept-3.jsonl and so on."""
    number, found = 1, path
    while os.path.lexists(found):
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found


def show(found: Mapping[str, Any], as_json: bool, lines: Iterable[str]) -> None:
    """Print a result, as one JSON object or as lines of text."""
    print(json.dumps(found, allow_nan=False) if as_json else "\n".join(lines))


def tell(found: Mapping[str, Any], as_json: bool, following: str) -> None:
    """Print what was done, and a useful next command."""
    show(found, as_json, [*(f"{name}: {value}" for name, value in found.items()), f"next: {following}"])
