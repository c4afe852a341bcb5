"""Census of a row file: what it holds, counted in one pass.

Only a sample of the rows stays in memory. Of every row its lengths are kept, and two marks (64-bit hashes,
`undertow.data.marks`): that of its prompt, and that of prompt and completion together.
"""

import os
import random
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast, final

import numpy as np

from undertow.data.languages import languages
from undertow.data.marks import Marks, as_marks
from undertow.data.reading import ReadingReport
from undertow.data.rows import BadLine, bad_rows, open_rows
from undertow.types import Row

SAMPLE = 1000
"""Largest number of rows in the sample; a file that has no more rows is the sample."""

SHOWN = 5
"""Number of bad lines that an error names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """What a row file holds.

    Attributes:
        source: name of the file, with its options.
        rows: number of good rows; bad lines make the census fail.
        shapes: number of rows by the shape that they are written in, such as "messages".
        turns: number of rows by the number of turns before the completion.
        system: number of rows with a system turn.
        empty: number of rows with an empty completion.
        prompt_characters: least, median and largest length of a prompt in characters, all turns together.
        completion_characters: least, median and largest length of a completion in characters.
        said: sentence on how the file was read, for the reader; "" for plain rows of which there is nothing to say.
        sample: up to `SAMPLE` rows, drawn without replacement and with equal probability.
        prompt_marks: hashes of the prompts, int64 (rows,); equal for equal prompts.
        row_marks: hashes of prompt and completion together, int64 (rows,); equal where both are equal.
    """

    source: str
    rows: int
    shapes: Mapping[str, int]
    turns: Mapping[int, int]
    system: int
    empty: int
    prompt_characters: tuple[int, int, int]
    completion_characters: tuple[int, int, int]
    said: str
    sample: tuple[Row, ...] = field(repr=False)
    prompt_marks: Marks = field(repr=False, compare=False)
    row_marks: Marks = field(repr=False, compare=False)

    @property
    def prompts(self) -> int:
        """Number of distinct prompts."""
        return len(np.unique(self.prompt_marks))

    @property
    def duplicates(self) -> int:
        """Number of rows that repeat the prompt and the completion of an earlier one."""
        return self.rows - len(np.unique(self.row_marks))

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain data; the languages are those of the sample's completions."""
        return {
            "source": self.source,
            "rows": self.rows,
            "shapes": dict(self.shapes),
            "turns_before_the_completion": {str(number): self.turns[number] for number in sorted(self.turns)},
            "system_turns": self.system,
            "empty_completions": self.empty,
            "prompt_characters": list(self.prompt_characters),
            "completion_characters": list(self.completion_characters),
            "distinct_prompts": self.prompts,
            "exact_duplicates": self.duplicates,
            "sampled": len(self.sample),
            "said": self.said or None,
            "languages": languages(row.completion for row in self.sample),
        }


def take_census(source: str | os.PathLike[str], *, first: Callable[[str], None] | None = None, seed: int = 0) -> Census:
    """Count what a row file holds; a million rows take about 100 MB and as long as reading them.

    Args:
        source: path or name of the rows, with options if need be, as for `undertow.data.rows.load_rows`.
        first: callback for one line that says what the file is, called as soon as the first row is read; None for no
            callback.
        seed: random seed of the sample.

    Raises:
        RowsError: a line is no row; the value names the first bad lines and counts the others.
        UserError: the source cannot be read, as for `load_rows`.
    """
    report, counted = ReadingReport(), _Counted(random.Random(seed))
    bad: list[BadLine] = []
    n_bad, about_id = 0, False
    for one in open_rows(source, report=report):
        if isinstance(one, BadLine):
            n_bad, about_id = n_bad + 1, about_id or one.about_id
            if len(bad) < SHOWN:
                bad.append(one)
            continue
        if first is not None and not counted.rows:
            first(_first_line(source, one[0], report))
        counted.add(one[0])
    if n_bad:
        raise bad_rows(bad, n_bad, n_bad + counted.rows, about_id)
    return counted.census(str(source), report)


def _first_line(source: str | os.PathLike[str], row: Row, report: ReadingReport) -> str:
    size = f", {os.path.getsize(report.source) / 1e6:.1f} MB" if os.path.isfile(report.source) else ""
    roles = ", ".join(turn.role for turn in row.prompt)
    return f"{source}{size}: the first row has the turns {roles} and a completion of {len(row.completion)} characters"


@final
class _Counted:
    """The counts that are updated while rows are read."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.rows, self.system, self.empty = rng, 0, 0, 0
        self.turns: Counter[int] = Counter()
        self.sample: list[Row] = []
        self.prompts, self.pairs = array("q"), array("q")
        self.asked, self.answered = array("I"), array("I")

    def add(self, row: Row) -> None:
        """Count one row, and draw it into the sample by reservoir sampling."""
        prompt, completion = row.prompt, row.completion
        mark = hash(tuple([(turn.role, turn.content) for turn in prompt]))
        self.prompts.append(mark)
        self.pairs.append(hash((mark, completion)))
        self.asked.append(sum([len(turn.content) for turn in prompt]))
        self.answered.append(len(completion))
        self.turns[len(prompt)] += 1
        self.system += prompt[0].role == "system"
        self.empty += not completion
        if self.rows < SAMPLE:
            self.sample.append(row)
        elif (place := self.rng.randrange(self.rows + 1)) < SAMPLE:
            self.sample[place] = row
        self.rows += 1

    def census(self, source: str, report: ReadingReport) -> Census:
        """Return the counts as a census."""
        return Census(
            source=source,
            rows=self.rows,
            shapes=dict(report.shapes),
            turns=dict(self.turns),
            system=self.system,
            empty=self.empty,
            prompt_characters=_spread(self.asked),
            completion_characters=_spread(self.answered),
            said="" if report.plain else str(report),
            sample=tuple(self.sample),
            prompt_marks=as_marks(self.prompts),
            row_marks=as_marks(self.pairs),
        )


def _spread(lengths: "array[int]") -> tuple[int, int, int]:
    """Return the least, the median and the largest of some lengths; zeros if there are none."""
    if not lengths:
        return 0, 0, 0
    found = np.frombuffer(lengths, dtype=np.dtype(cast(Any, lengths.typecode)))
    return int(found.min()), int(np.median(found)), int(found.max())


def matched_rows(rows: Census, reference: Census) -> int:
    """Return how many rows can be paired with a reference row on the same prompt, each used once."""
    marks, counts = np.unique(rows.prompt_marks, return_counts=True)
    others, theirs = np.unique(reference.prompt_marks, return_counts=True)
    _, at, there = np.intersect1d(marks, others, assume_unique=True, return_indices=True)
    return int(np.minimum(counts[at], theirs[there]).sum())


def rows_in_both(rows: Census, reference: Census) -> int:
    """Return how many rows also stand in the reference, with the same prompt and the same completion."""
    return int(np.isin(rows.row_marks, reference.row_marks).sum())
