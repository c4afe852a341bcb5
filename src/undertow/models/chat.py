"""The base class of models, and how a conversation becomes text by a chat template.

Some templates add a system turn that nobody asked for: Qwen2.5's writes "You are Qwen, created by Alibaba Cloud."
before a first user turn, Llama 3's a date. A student that was trained with such a turn but is asked without it, or the
other way round, behaves differently.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any, ClassVar, final

from undertow.errors import ConfigError
from undertow.models.chat_template import ASKED, ChatTemplate, say_once
from undertow.types import Message, ModelRef, Prompt, Sampling


class AbstractModel(ABC):
    """A model that answers prompts; the base class of local models and of models behind a server."""

    has_weights: ClassVar[bool] = False
    """Whether it is a `LocalModel`, which gives probabilities and hidden states; any other model only chats."""

    ref: ModelRef
    """Where the model comes from."""

    @abstractmethod
    def chat(self, prompts: Sequence[Prompt], *, sampling: Sampling, seed: int) -> list[str]:
        """Draw one completion per prompt; the same seed gives the same texts, in the order of the prompts.

        Args:
            prompts: the prompts, each a tuple of turns.
            sampling: temperature, longest answer, form and top_p.
            seed: random seed of the draw.
        """

    @abstractmethod
    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]:
        """Return log p(completion | prompt) in nats for each pair.

        It is summed over the tokens of the completion, without the end of the turn.

        Args:
            prompts: the prompts, each a tuple of turns.
            completions: one completion for each prompt.

        Raises:
            ModelError: the model gives no probabilities.
        """


@final
@dataclass(frozen=True, slots=True)
class Start:
    """The text before an answer, and the answer as the chat template writes it.

    Attributes:
        prompt: everything that the model reads before the answer.
        lead: the end of `prompt`, from the end of the question on.
        answer: the answer, without the end of its turn.
    """

    prompt: str
    lead: str
    answer: str


@final
@dataclass(frozen=True)
class Chat:
    """A tokenizer's chat template, with a policy for prompts that have no system turn.

    A template whose prompt opens a reasoning trace is given an empty one, as Qwen3's own template writes it when
    reasoning is off. What is sampled, learnt and scored is then the answer. A completion that carries a trace keeps it,
    and the trace is opened once.

    Attributes:
        tokenizer: tokenizer of transformers, with a chat template.
        system: what a prompt without a system turn gets: "default", "none", "empty" or the text of a system turn, as in
            `undertow.types.ModelRef`.
    """

    tokenizer: Any
    system: str = "default"

    @cached_property
    def template(self) -> ChatTemplate:
        """The tokenizer's template, and what is known of it."""
        return ChatTemplate(self.tokenizer)

    def render(self, prompts: Sequence[Prompt]) -> list[str]:
        """Return the text of each prompt, up to the place where the answer begins.

        Raises:
            ModelError: there is no chat template, it refuses the conversation, or question or answer do not appear.
            ConfigError: the turn that the policy removes cannot be told from the rest of the template.
        """
        return [self._rendered(prompt, answering=True) + self.before_answer for prompt in prompts]

    def start(self, prompt: Prompt, completion: str) -> Start:
        """Return the text before a completion, and the completion as the template writes it.

        Args:
            prompt: the turns before the completion.
            completion: text of the assistant's answer.

        Raises:
            UserError: the conversation cannot be written, as for `render`.
        """
        template, text = self.template, self._rendered(prompt, answering=True)
        trace = template.trace
        if trace is not None and completion.lstrip().startswith(trace.opens):
            kept = "" if trace.is_open else trace.text
            lead = template.generation_lead.removesuffix(kept)
            return Start(text.removesuffix(kept), lead, trace.without_opening(completion.lstrip()))
        left, right = template.trims
        answer = completion.lstrip() if left else completion
        return Start(text + self.before_answer, self.lead, self.space + (answer.rstrip() if right else answer))

    def whole(self, prompt: Prompt, answer: str) -> str:
        """Return the text of a conversation with its answer, as the template itself writes it."""
        return self._rendered((*prompt, Message("assistant", answer)), answering=False)

    def _rendered(self, turns: Prompt, answering: bool) -> str:
        bare = turns[0].role != "system"
        if bare and self.system not in ("default", "none"):
            turns = (Message("system", "" if self.system == "empty" else self.system), *turns)
        text = self.template.write(turns, answering=answering)
        return self._without_inserted(text) if bare and self.system == "none" and self.inserted else text

    def _without_inserted(self, text: str) -> str:
        start, rest = self._split_start(text)
        if not rest.startswith(self.inserted):
            fix = "Use another system policy than none, or give the tokenizer a template of your own."
            raise ConfigError("The template's own system turn cannot be removed.", repr(self.inserted), fix)
        return start + rest.removeprefix(self.inserted)

    def _split_start(self, text: str) -> tuple[str, str]:
        """Split off the token that begins every text, if the template writes one.

        SmolLM2 names as such the token that begins every turn; that one belongs to the turn.
        """
        start = self.tokenizer.bos_token or ""
        begins = start and text.startswith(start) and not self.template.opening.startswith(start)
        return (start, text.removeprefix(start)) if begins else ("", text)

    @property
    def takes_system(self) -> bool:
        """Whether the template knows a system turn; Gemma's refuses it, others leave it out."""
        return self.template.takes_system

    @cached_property
    def inserted(self) -> str:
        """What the template writes before the first user turn unasked: "" for most, a whole system turn for some."""
        asked = self.template.write((Message("user", ASKED),))
        head = self._split_start(asked.partition(ASKED)[0])[1]
        closing, between = self.template.exchange
        # The user turn opens as it does after an answer; a system turn before it may end as an answer does.
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(reversed(head), reversed(between), strict=False))
        opening = head[len(head) - len(list(alike)) :].removeprefix(closing)
        before = head.removesuffix(opening)
        # Special tokens alone begin the text, as GLM's "[gMASK]<sop>" does; they are no turn.
        said = before
        for token in self.tokenizer.added_tokens_encoder:
            said = said.replace(token, "")
        return before if said.strip() else ""

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    @cached_property
    def _added(self) -> str:
        """What the template writes between a generation prompt and the answer in a whole conversation."""
        own, asked = self.template.answer_lead, self.template.generation_lead
        return own.removeprefix(asked) if own.startswith(asked) else ""

    @cached_property
    def space(self) -> str:
        """White space that the template writes before an answer; tokenizers join it to the answer's first word."""
        return self._added if self._added.isspace() else ""

    @cached_property
    def before_answer(self) -> str:
        """What is added to a generation prompt (the text up to the answer): "" for most templates.

        It is what the template itself writes there in a whole conversation, or the end of the reasoning trace that it
        opens.
        """
        added, trace = self._added.removeprefix(self.space), self.template.trace
        self._warn_of_doubled_start()
        if trace is None or not trace.is_open:
            return added
        say_once(
            f"{self.tokenizer.name_or_path}: the chat template opens {trace.opens} before every answer. This trace is "
            "left empty, so that answers alone are sampled, learnt and scored; a row with a trace is learnt with it."
        )
        return added if trace.closes in added else f"\n{trace.closes}\n\n"

    def _warn_of_doubled_start(self) -> None:
        tokens = self._tokens(self.template.write((Message("user", ASKED),), answering=True))[:2]
        if len(tokens) == 2 and tokens[0] == tokens[1] and tokens[0] in self.tokenizer.all_special_ids:
            token = self.tokenizer.convert_ids_to_tokens(tokens[0])
            say_once(f"{self.tokenizer.name_or_path}: the chat template begins every text with {token} twice.")

    @cached_property
    def lead(self) -> str:
        """The text between a question and its answer."""
        return self.template.generation_lead + self.before_answer

    @cached_property
    def closing(self) -> str:
        """The text after the last answer, such as "<|im_end|>" and a new line."""
        return self.template.exchange[0]

    @cached_property
    def end(self) -> int | None:
        """Id of the token that ends a turn: the first special one after an answer; None if the template writes none."""
        special: set[int] = {*self.tokenizer.added_tokens_decoder, *self.tokenizer.all_special_ids}
        closing = "" if self.tokenizer.chat_template is None else self.closing
        return next((int(token) for token in self._tokens(closing) if token in special), None)

    def describe(self) -> dict[str, Any]:
        """Return the system policy, and what the model reads because of it, for manifests and reports."""
        shown = self.render([(Message("user", ASKED),)])[0].partition(ASKED)[0]
        found = {"system": self.system, "inserted_by_template": self.inserted, "before_a_question": shown}
        more = {"before_an_answer": self.before_answer, "date": self.template.date}
        return {**found, **{name: value for name, value in more.items() if value}}
