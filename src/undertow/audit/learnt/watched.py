"""Rows that somebody says are trained on, looked for in what is.

They are compared as text without white space, written by the tokenizer itself, so that neither a chat template nor the
places at which a text is cut into tokens matter. Of texts that hold the row's question before its completion one is
enough.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

import torch

from undertow.audit.learnt.passes import Sequence as Passed
from undertow.errors import EmptyDataError
from undertow.types import Row

MOST = 1000
"""Rows that are looked for; of more, the first."""
_SPACES = str.maketrans("", "", "ĠĊĉč▁ \n\t\r")
"""White space, and how tokenizers write it."""
_TOKENS = ("prompt_ids", "input_ids", "completion_ids", "chosen_ids", "rejected_ids")
"""Columns of token ids: of Trainer and SFTTrainer, and of TRL's trainers of pairs and answers."""
_NEWLINE = "\n"


@final
class Watched:
    """Rows as text; a row without a completion has nothing to be looked for.

    Args:
        rows: rows, or texts that have to be learnt.
        tokenizer: the one of the training.

    Attributes:
        names: of the rows that are looked for: their ids, or the beginnings of the texts.
        left: how many rows are not.
        whole: those that came through the model whole, by their place in `names`.
        learnt: those of them that had loss on some of their tokens.

    Raises:
        EmptyDataError: there is no row to look for.
    """

    def __init__(self, rows: Sequence[Row | str], tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._written: dict[int, str] = {}
        given = [
            ("", row, row[:40]) if isinstance(row, str) else (row.question, row.completion, row.id) for row in rows
        ]
        texts = [(self._text(question), self._text(completion), name) for question, completion, name in given[:MOST]]
        texts = [one for one in texts if one[1]]
        if not texts:
            raise EmptyDataError("There is no row to watch.", f"{len(rows)} rows", "Give rows that have completions.")
        self._texts = [(question, completion) for question, completion, _ in texts]
        self.names = [name for _, _, name in texts]
        self.left = len(rows) - len(texts)
        self.whole: set[int] = set()
        self.learnt: set[int] = set()

    def absent(self, examples: Iterable[Sequence[int]]) -> list[str]:
        """Return the names of the rows that are whole in none of the examples, each given as token ids."""
        written = ["".join(self._pieces(ids)) for ids in examples]
        everything, starts = _NEWLINE.join(written), [0]
        for one in written:
            starts.append(starts[-1] + len(one) + 1)
        return [
            name
            for name, text in zip(self.names, self._texts, strict=True)
            if _place(everything, starts, *text) is None
        ]

    def see(self, passed: Iterable[Passed]) -> None:
        """Note which rows came whole, and which of them had loss."""
        for one in passed:
            pieces = self._pieces(one.tokens)
            text, starts = "".join(pieces), [0]
            for piece in pieces:
                starts.append(starts[-1] + len(piece))
            for number, (question, completion) in enumerate(self._texts):
                if (at := _place(text, [0], question, completion)) is None:
                    continue
                self.whole.add(number)
                first, last = (bisect_right(starts, place) - 1 for place in (at, at + len(completion) - 1))
                if any(one.learnt[first : last + 1]):
                    self.learnt.add(number)

    def unlearnt(self) -> list[str]:
        """Return the names of the rows that came whole and never had loss."""
        return [self.names[number] for number in sorted(self.whole - self.learnt)]

    def _text(self, text: str) -> str:
        return "".join(self._pieces(self._tokenizer(text, add_special_tokens=False)["input_ids"])) if text else ""

    def _pieces(self, ids: Sequence[int]) -> list[str]:
        new = [one for one in set(ids) if one not in self._written]
        for one, written in zip(new, self._tokenizer.convert_ids_to_tokens(new), strict=True):
            self._written[one] = "" if written is None else written.removeprefix("##").translate(_SPACES)
        return [self._written[one] for one in ids]


def _place(text: str, starts: Sequence[int], question: str, completion: str) -> int | None:
    """Return where the completion stands in a text behind the question and within the same example, or None.

    Args:
        text: one or more examples.
        starts: where each of them starts, and after the last one, where a next one would; a single one may be [0].
        question: what stands before the completion; may be empty.
        completion: what is looked for.
    """
    at = text.find(completion)
    while at >= 0:
        start = starts[bisect_right(starts, at) - 1]
        if text.find(question, start, at) >= 0:
            return at
        at = text.find(completion, at + 1)
    return None


def token_ids(dataset: Any) -> list[list[int]] | None:
    """Return the token ids of each example of a Trainer's dataset, prompts first, or None where it holds none.

    What a dataset draws at random while it is read is not drawn for the training.
    """
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__") or not len(dataset):
        return None
    first: Any = dataset[0]
    keys = [str(key) for key in first if key in _TOKENS] if isinstance(first, Mapping) else []
    if not keys:
        return None
    keys.sort(key=_TOKENS.index)
    with torch.random.fork_rng(devices=[]):
        examples: list[Any] = [dataset[place] for place in range(len(dataset))]
    return [[int(one) for key in keys for one in example[key]] for example in examples]
