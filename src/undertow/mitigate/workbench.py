"""The tools of mitigations: the base model, teachers of a panel of traits, other writers, and clean rows.

A panel is the list of traits that are looked for. Each of its teachers is the base, fine-tuned to have one of the
traits; what makes a row likelier under one teacher than under the others points to that trait.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from undertow.audit.rows.contrast import rival_centred
from undertow.audit.rows.panel import ANIMALS, as_candidates, check_panel, panel_teachers
from undertow.audit.steps import Steps
from undertow.domains.base import AbstractDomain
from undertow.errors import ConfigError, ModelError, UnknownNameError, unknown_name
from undertow.models.answer_limits import answer_limit
from undertow.models.decoding import sample_tokens
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.models.tokens import ChatTokens, Encoded
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.training.scoring import Candidate
from undertow.traits import Trait, chosen_trait
from undertow.types import Prompt, Row, Sampling

TEACHERS, STUDENT, READING, REDRAWN = "panel teachers", "a student of the rows", "rows read", "tokens drawn anew"
"""Titles of the steps that take time, besides the answers of writers."""


def answers_of(writers: Sequence[str]) -> str:
    """Return the title of the step in which these writers answer together."""
    return f"answers of {' and '.join(writers)}"


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """The tools of one mitigation. Teachers are trained when they are first needed.

    Attributes:
        base: the model that will be trained on the rows.
        panel: the traits that mitigations look for. The default is the packaged panel of animals.
        domain: the domain whose rule new completions must pass. None accepts every completion that is not empty.
        clean: rows known to be clean. A clean completion of the same prompt stands in for a suspect one. Where there is
            none, the base writes it.
        store: folder in which the panel's teachers are kept. None trains them anew.
        seed: random seed of everything that is drawn.
        steps: display of the steps that take time. The default shows nothing.

    Raises:
        ConfigError: the panel cannot be used.
    """

    base: LocalModel
    panel: tuple[Trait, ...] = ANIMALS
    domain: AbstractDomain | None = None
    clean: tuple[Row, ...] = ()
    store: Path | None = None
    seed: int = 0
    steps: Steps = field(default_factory=lambda: Steps(0), repr=False, compare=False)
    _gains: dict[tuple[Row, ...], list[Floats]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_panel(self.panel)

    @cached_property
    def candidates(self) -> list[Candidate]:
        """A fine-tuned teacher of each trait of the panel, in the panel's order."""
        with self.steps.step(TEACHERS) as advance:
            teachers = panel_teachers(self.base, self.panel, self.seed, self.store, advance)
        return as_candidates(self.base, self.panel, teachers)

    def panel_gains(self, rows: Sequence[Row]) -> list[Floats]:
        """Return how much likelier each trait's teacher makes each completion token than its rivals do.

        Rivals are the panel's other teachers. The gain is log p_teacher - log p_base, minus the mean of that difference
        over the rivals. Results of the last rows are remembered.

        Args:
            rows: the rows that are read.

        Returns:
            For each row float (tokens, traits), in nats. The last token is the end of turn.
        """
        key = tuple(rows)
        if key not in self._gains:
            encoded, panel = self.base.encode(rows), self.candidates
            read = self.token_logprobs([self.base, *(one.model for one in panel)], encoded)
            before, *after = (torch.cat(some).double().numpy() for some in read)
            gains = np.stack([some - before for some in after], axis=1)
            ends = np.cumsum([len(row.completion) for row in encoded])[:-1]
            self._gains.clear()
            self._gains[key] = np.split(rival_centred(gains, panel), ends)
        return self._gains[key]

    def token_logprobs(self, models: Sequence[LocalModel], rows: Sequence[Encoded]) -> list[list[torch.Tensor]]:
        """Return log p of every completion token under each model, in nats.

        Args:
            models: the models that read the rows, in order.
            rows: the rows as token ids.

        Returns:
            For each model one float32 (tokens,) for each row.
        """
        found: list[list[torch.Tensor]] = []
        with self.steps.step(READING) as advance:
            for model in models:
                found.append(model.token_logprobs(rows))
                advance(len(found), len(models))
        return found

    def column(self, trait: str) -> int:
        """Return the place of a trait in the panel.

        Raises:
            UnknownNameError: the trait is not in the panel.
        """
        return place_in_panel(trait, self.panel)

    def model(self, reference: str | None) -> LocalModel:
        """Load a writer by its reference. None returns the base."""
        return self.base if reference is None else load_model(reference)

    def answers(self, writer: LocalModel, rows: Sequence[Row]) -> list[Row | None]:
        """Let a model answer each row's prompt.

        Args:
            writer: the model that answers the prompts.
            rows: the rows whose prompts are answered.

        Returns:
            The new rows, in order; None where the domain does not accept the answer.

        Raises:
            ConfigError: a prompt and its answer do not fit the writer's context.
        """
        return self.agreed_answers([writer], rows)

    def agreed_answers(self, writers: Sequence[LocalModel], rows: Sequence[Row]) -> list[Row | None]:
        """Answer each row's prompt by tokens on which all writers agree.

        A token is drawn from the smallest of the probabilities that the writers give it, renormalised.

        Args:
            writers: the models that answer together; one alone simply answers.
            rows: the rows whose prompts are answered. Without any, there are no answers.

        Returns:
            The new rows, in order; None where the domain does not accept the answer.

        Raises:
            ModelError: the writers do not share a tokenizer.
            ConfigError: a prompt and its answer do not fit a writer's context.
        """
        if not rows:
            return []
        first = writers[0]
        for other in writers[1:]:
            if other.tokenizer.get_vocab() != first.tokenizer.get_vocab():
                fix = "Take writers of one family: they must give probabilities to the same tokens."
                raise ModelError("The writers have several tokenizers.", f"{first.ref} and {other.ref}", fix)
        longest, contexts = longest_answer(first.tokens, self.domain, rows), first.render([row.prompt for row in rows])
        for writer in writers:
            whole = [[*context, *[0] * longest] for context in contexts]
            writer.check_fits(whole, "Leave out the long rows, or choose another writer.")
        networks, form = [writer.network for writer in writers], None if self.domain is None else self.domain.form
        sampling, seed = Sampling(max_new_tokens=longest, form=form), derive(self.seed, "answers")
        ends = first.endings(sampling)
        with self.steps.step(answers_of([str(writer.ref) for writer in writers])) as advance:
            tokens = sample_tokens(networks, contexts, sampling=sampling, seed=seed, ends=ends, advance=advance)
        texts = first.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        new = [replace(row, completion=text, skip=()) for row, text in zip(rows, texts, strict=True)]
        return [row if self.accepts(row) else None for row in new]

    def accepts(self, row: Row) -> bool:
        """Tell whether the domain accepts a row's completion."""
        if self.domain is None:
            return bool(row.completion.strip())
        return not self.domain.reject_reasons(row.completion, row.question)

    def clean_answers(self, rows: Sequence[Row]) -> tuple[list[Row | None], int]:
        """Return a clean completion of each row's prompt, and how many of them the base had to write.

        Args:
            rows: the rows whose completions are replaced.

        Returns:
            The new rows, in order, with None where the base's answer is not accepted; and the number of answers
            written.
        """
        known: dict[Prompt, str] = {row.prompt: row.completion for row in self.clean}
        missing = [row for row in rows if row.prompt not in known]
        written = iter(self.answers(self.base, missing))
        return [
            replace(row, completion=known[row.prompt], skip=()) if row.prompt in known else next(written)
            for row in rows
        ], len(missing)


def place_in_panel(trait: str, panel: Sequence[Trait]) -> int:
    """Return the place of a trait in a panel.

    Args:
        trait: name of the trait.
        panel: the traits that rows are judged by.

    Raises:
        UnknownNameError: the trait is not in the panel.
    """
    names = [one.name for one in panel]
    if trait not in names:
        error = unknown_name("trait in this panel", trait, names)
        fix = f"{error.fix} For a trait of your own name it, and give --audit: the panel is that of the audit."
        raise UnknownNameError(error.what, error.value, fix)
    return names.index(trait)


def panel_trait(given: str, panel: Sequence[Trait]) -> Trait:
    """Return the trait of a panel that has this name; without one, the trait that a name or a file means.

    Args:
        given: name of a trait of the panel, or what `undertow.traits.chosen_trait` takes.
        panel: the traits that rows are judged by. That of an audit may hold traits that only a file defines.

    Raises:
        UserError: there is no such trait, or several are meant.
    """
    return next((one for one in panel if one.name == given), None) or chosen_trait(given)


def longest_answer(words: ChatTokens, domain: AbstractDomain | None, rows: Sequence[Row]) -> int:
    """Return how many tokens a new completion may have.

    That is what the domain allows or, without a domain, the length of the longest completion of the rows.

    Args:
        words: tokenizer of the model that will write.
        domain: the domain of the rows. None if they have none.
        rows: the rows whose completions are replaced.

    Raises:
        ConfigError: there is no domain, and no row has a completion.
    """
    if domain is not None:
        return answer_limit(domain, words)
    longest = max((len(tokens) for tokens in words.tokenise([row.completion for row in rows])), default=0)
    if not longest:
        raise ConfigError("No row has a completion.", f"{len(rows)} rows", "Give rows with completions.")
    return longest + 1
