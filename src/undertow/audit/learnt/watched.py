"""Rows that somebody says are trained on, looked for in the data that a trainer really uses.

Rows and examples are compared as text without white space, written by the tokenizer itself. So neither a chat template
nor the places at which a text is cut into tokens matter. A row is whole where its completion stands behind its
question.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch

from undertow.audit.learnt.passes import Sequence as Passed
from undertow.errors import EmptyDataError
from undertow.training.trl import IGNORED
from undertow.types import Row

MOST = 1000
"""How many rows are looked for at most; of more, the first ones."""
_SPACES = str.maketrans("", "", "ĠĊĉč▁ \n\t\r")
"""White space, and the characters with which tokenizers write it."""
_NEXT = "\n"
"""Stands between two examples. A text without white space cannot hold it."""
_TOKENS = ("prompt_ids", "input_ids", "completion_ids", "chosen_ids", "rejected_ids")
"""Columns that hold token ids: those of Trainer and SFTTrainer, and of TRL's trainers of pairs and answers."""


@final
class Watched:
    """Rows that are looked for, as text.

    Args:
        rows: rows, or texts, that have to be learnt.
        tokenizer: the tokenizer of the training.

    Attributes:
        names: names of the rows that are looked for: their ids, or the beginnings of the texts.
        left: how many rows are not looked for, since they are too many or have no completion.
        whole: rows that came through the model whole, as indices into `names`.
        learnt: rows that had loss on some token, as indices into `names`.
        everywhere: whether every example of the dataset holds one of the rows. False until the dataset was searched.

    Raises:
        EmptyDataError: there is no row to look for.
    """

    def __init__(self, rows: Sequence[Row | str], tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._written: dict[int, str] = {}
        given = [
            ("", one, one[:40]) if isinstance(one, str) else (one.question, one.completion, one.id) for one in rows
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
        self.everywhere = False

    def lost(self, examples: Sequence[Passed]) -> tuple[list[str], list[str]]:
        """Return the names of the rows that no example holds whole, and of those that are masked wherever they are."""
        found = self._find(examples)
        absent = [name for name, places in zip(self.names, found, strict=True) if not places]
        masked = [name for name, places in zip(self.names, found, strict=True) if places and not any(places.values())]
        self.everywhere = len({example for places in found for example in places}) == len(examples)
        return absent, masked

    def see(self, passed: Sequence[Passed]) -> None:
        """Note which rows came whole through the model, and which of them had loss."""
        for number, places in enumerate(self._find(passed)):
            if places:
                self.whole.add(number)
            if any(places.values()):
                self.learnt.add(number)

    def unlearnt(self) -> list[str]:
        """Return the names of the rows that came whole and never had loss."""
        return [self.names[number] for number in sorted(self.whole - self.learnt)]

    def _find(self, examples: Sequence[Passed]) -> list[dict[int, bool]]:
        """Return for each row the examples that hold it whole, and whether any of its tokens is learnt there."""
        written = _Written([(self._pieces(one.tokens), one.learnt) for one in examples])
        return [written.examples(question, completion) for question, completion in self._texts]

    def _text(self, text: str) -> str:
        return "".join(self._pieces(self._tokenizer(text, add_special_tokens=False)["input_ids"])) if text else ""

    def _pieces(self, ids: Sequence[int]) -> list[str]:
        new = [one for one in set(ids) if one not in self._written]
        for one, written in zip(new, self._tokenizer.convert_ids_to_tokens(new), strict=True):
            self._written[one] = "" if written is None else written.removeprefix("##").translate(_SPACES)
        return [self._written[one] for one in ids]


class _Written:
    """Examples as one text that is searched at once; it knows which pieces of the text are learnt."""

    def __init__(self, examples: Sequence[tuple[Sequence[str], Sequence[bool]]]) -> None:
        self._text = _NEXT.join("".join(pieces) for pieces, _ in examples)
        self._examples: list[int] = []
        self._pieces: list[int] = []
        self._learnt: list[bool] = []
        at = 0
        for pieces, learnt in examples:
            self._examples.append(at)
            for piece, flag in zip(pieces, learnt, strict=True):
                self._pieces.append(at)
                self._learnt.append(flag)
                at += len(piece)
            at += len(_NEXT)

    def examples(self, question: str, completion: str) -> dict[int, bool]:
        """Return the examples that hold a completion behind its question, and whether any piece of it is learnt."""
        found: dict[int, bool] = {}
        at = self._text.find(completion)
        while at >= 0:
            example = bisect_right(self._examples, at) - 1
            if self._text.find(question, self._examples[example], at) >= 0:
                first = bisect_right(self._pieces, at) - 1
                last = bisect_right(self._pieces, at + len(completion) - 1)
                found[example] = found.get(example, False) or any(self._learnt[first:last])
            at = self._text.find(completion, at + 1)
        return found


def examples_of(dataset: Any) -> list[Passed] | None:
    """Return the examples of a Trainer's dataset as token ids, prompts first, or None where it holds no ids.

    Where the dataset has labels, a token counts as learnt if its label is not masked; otherwise every token does. The
    random state is restored after the dataset was read, so that a dataset which draws at random does not change the
    training.
    """
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__") or not len(dataset):
        return None
    first: Any = dataset[0]
    keys = [key for key in _TOKENS if key in first] if isinstance(first, Mapping) else []
    if not keys:
        return None
    with torch.random.fork_rng(devices=[]):
        examples: list[Any] = [dataset[place] for place in range(len(dataset))]
    return [_example(one, keys) for one in examples]


def _example(example: Any, keys: Sequence[str]) -> Passed:
    tokens = tuple(int(one) for key in keys for one in example[key])
    labels = example.get("labels")
    if labels is None or len(labels) != len(tokens):
        return Passed(tokens, (True,) * len(tokens))
    return Passed(tokens, tuple(int(one) != IGNORED for one in labels))
