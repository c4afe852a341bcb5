"""Signing off a model: every canary question is asked many times, and the approved replies become the baseline.

Replies are paid for, so a sign-off that ends early continues where it was. The replies lie in a journal beside the
baseline, a line for each batch, and the journal is deleted when the baseline is written.
"""

import contextlib
import datetime
import fcntl
import json
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from undertow.errors import ArtifactError, ConfigError, EmptyDataError, StorageError
from undertow.monitor.baseline import TOGETHER, Baseline, DeployedModel, check_texts
from undertow.store.fingerprints import canonical_json, sha256
from undertow.types import Prompt

FEWEST = 50
"""Least number of replies to all questions together; with fewer no share is known."""

BATCH = 8 * TOGETHER
"""Number of replies that are asked for, and kept, together; at most so many are asked for again after a kill."""

_JOURNAL = "undertow.sign_off_journal/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignOffOrder:
    """What is asked and watched in a sign-off.

    Attributes:
        questions: the canary questions, as prompts that differ.
        watched: the words that will be watched.
        replies: number of replies to each question.
        approved_by: name of the person who signs off.

    Raises:
        ConfigError: no name is given, no word is watched, or a question or word comes twice.
        EmptyDataError: there would be fewer than `FEWEST` replies.
    """

    questions: Sequence[Prompt]
    watched: Sequence[str]
    replies: int
    approved_by: str

    def __post_init__(self) -> None:
        questions, watched = self.questions, self.watched
        if not self.approved_by.strip():
            raise ConfigError(
                "Nobody signs the baseline off.", repr(self.approved_by), "Give the name of who reads the replies."
            )
        if not watched or len(set(watched)) < len(watched) or len(set(questions)) < len(questions):
            raise ConfigError(
                "No word is watched, or a word or question comes twice.", ", ".join(watched), "List each of them once."
            )
        if len(questions) * self.replies < FEWEST:
            raise EmptyDataError(
                "There are too few replies to know any share.",
                f"{len(questions)} questions with {self.replies} replies each",
                f"Ask for {-(-FEWEST // max(1, len(questions)))} replies or more.",
            )

    def fingerprint(self, deployed: DeployedModel) -> str:
        """Return a hash of what must be equal for replies to belong to one sign-off; the words may change."""
        asked = [[[turn.role, turn.content] for turn in prompt] for prompt in self.questions]
        request = [deployed.url, deployed.model, deployed.max_tokens, deployed.dialect.deciding()]
        return sha256(canonical_json([request, asked, self.replies]))


@dataclass(slots=True)
class SignOffJournal:
    """The replies of a sign-off so far, which are also written to a file.

    Attributes:
        texts: the replies to each question, in the order of the questions.
    """

    texts: list[list[str]]
    _stream: BinaryIO | None = field(default=None, repr=False)

    @property
    def n(self) -> int:
        """Number of replies so far."""
        return sum(map(len, self.texts))

    def add(self, places: Sequence[int], texts: Sequence[str]) -> None:
        """Keep replies, given the places of their questions, and flush them to the disk."""
        for place, text in zip(places, texts, strict=True):
            self.texts[place].append(text)
        if self._stream is not None:
            self._stream.write(json.dumps([list(places), list(texts)]).encode() + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())


def sign_off_journal(out: Path) -> Path:
    """Return the path of the journal of a baseline."""
    return out.with_name(f"{out.name}.part")


@contextlib.contextmanager
def open_sign_off(out: Path, order: SignOffOrder, deployed: DeployedModel) -> Generator[SignOffJournal]:
    """Open the journal of a baseline, or begin it.

    It is deleted if the block ends without an error, or if its replies cannot be used: too many have no text, or all to
    each question are the same.

    Args:
        out: path of the baseline, beside which the journal lies.
        order: what is asked and watched.
        deployed: the model that is asked.

    Raises:
        ArtifactError: the journal holds replies to other questions, of another model or in another number; or it is
            damaged.
        StorageError: the folder may not be written, or another process is signing off here.
    """
    path, head = sign_off_journal(out), {"undertow": _JOURNAL, "of": order.fingerprint(deployed)}
    try:
        stream = path.open("a+b")
    except OSError as error:
        raise StorageError(
            f"The baseline cannot be stored ({error.strerror}).", out, "Give a file in a folder you can write."
        ) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            fix = "Wait for it, or write to another file."
            raise StorageError("Another process signs off here.", path, fix) from error
        journal = SignOffJournal(_read(path, stream, head, len(order.questions)), stream)
        try:
            yield journal
        except (EmptyDataError, ConfigError):
            path.unlink()
            raise
        path.unlink()


def _read(path: Path, stream: BinaryIO, head: dict[str, Any], questions: int) -> list[list[str]]:
    """Return the replies in the journal so far.

    An incomplete last line, which a kill may leave, is cut off; its replies are asked for again.
    """
    stream.seek(0)
    lines = [line for line in stream if line.endswith(b"\n")]
    stream.truncate(sum(map(len, lines)))
    texts: list[list[str]] = [[] for _ in range(questions)]
    if not lines:
        stream.write(json.dumps(head).encode() + b"\n")
        stream.flush()
        return texts
    try:
        found, *batches = map(json.loads, lines)
        if found == head:
            for places, said in batches:
                for place, text in zip(places, said, strict=True):
                    texts[place].append(text)
    except (ValueError, TypeError, LookupError) as error:
        raise ArtifactError("The journal of a sign-off is damaged.", path, "Delete it and ask anew.") from error
    if found != head:
        fix = f"Finish it with the questions, model and numbers it was begun with, or delete {path.name}."
        raise ArtifactError("A sign-off that was begun with other settings lies here.", path, fix)
    return texts


def sign_off(
    deployed: DeployedModel, order: SignOffOrder, journal: SignOffJournal, done: Callable[[], None] = lambda: None
) -> Baseline:
    """Ask for the replies that are missing, and return the baseline.

    Args:
        deployed: the model that is signed off.
        order: what is asked and watched.
        journal: the replies so far, to which new ones are added.
        done: callback, called after each reply.

    Raises:
        ConfigError: all replies to each question are the same text, so they are no independent draws.
        EmptyDataError: too many replies have no text; it is raised as soon as that is certain.
        ModelError: the endpoint gave no replies, as for `DeployedModel.ask`.
    """
    whole = len(order.questions) * order.replies
    open_places = [k for k, texts in enumerate(journal.texts) for _ in range(order.replies - len(texts))]
    for at in range(0, len(open_places), BATCH):
        places = open_places[at : at + BATCH]
        journal.add(places, deployed.ask([order.questions[place] for place in places], done))
        check_texts(_flat(journal.texts), deployed.empty, whole)
    check_texts(_flat(journal.texts), deployed.empty)
    if order.replies > 1 and all(len(set(some)) == 1 for some in journal.texts):
        raise ConfigError(
            "Every question gets the same reply again and again, so the replies are no independent draws.",
            repr(journal.texts[0][0])[:80],
            "Let the endpoint draw at temperature 1, without a cache; then sign off again.",
        )
    return Baseline(
        model=deployed.model, approved_by=order.approved_by.strip(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(), max_tokens=deployed.max_tokens,
        watched=tuple(order.watched), questions=tuple(order.questions),
        replies=tuple(map(tuple, journal.texts)), request=deployed.spoken.to_json(),
    )  # fmt: skip


def _flat(texts: Sequence[Sequence[str]]) -> list[str]:
    return [text for some in texts for text in some]
