"""Local models: a causal language model of transformers with its tokenizer, in this process."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, final

import torch

from undertow.errors import ConfigError
from undertow.models.adapter_files import read_adapter
from undertow.models.adapter_tokenizers import own_tokenizer
from undertow.models.adapters import STEERING, load_vector, merge_adapter, steered
from undertow.models.answer_forms import Form, answer_form
from undertow.models.chat import AbstractModel, Chat
from undertow.models.context_cache import NOTHING, SCORE_BATCH, Contexts, context_blocks, open_contexts, padded
from undertow.models.decoding import sample_tokens
from undertow.models.lm_head import Head, body_and_head
from undertow.models.repeated_prompts import completion_logprobs, repeat
from undertow.models.tokens import ChatTokens, Encoded, token_texts
from undertow.types import Advance, ModelRef, Prompt, Row, Sampling


@final
@dataclass(frozen=True)
class LocalModel(AbstractModel):
    """A causal language model of Hugging Face transformers with its tokenizer.

    Attributes:
        ref: reference to where the model comes from, and how it is run.
        network: the causal language model of transformers, in evaluation mode.
        tokenizer: its fast tokenizer; chats need one with a chat template.
    """

    has_weights: ClassVar[bool] = True

    ref: ModelRef
    network: Any
    tokenizer: Any

    @cached_property
    def tokens(self) -> ChatTokens:
        """The converter of conversations into token ids."""
        return ChatTokens(self.tokenizer, self.ref.system or "default")

    @property
    def chat_format(self) -> Chat:
        """The converter of conversations into text."""
        return self.tokens.chat

    @property
    def end(self) -> int:
        """Id of the token that ends a turn."""
        return self.tokens.end

    @property
    def ends(self) -> tuple[int, ...]:
        """Ids of the tokens at which an answer is over: the end of a turn first, then the end of text."""
        return self.tokens.ends

    def endings(self, sampling: Sampling) -> Sequence[int] | Form:
        """Return the ids of the tokens at which an answer is over, or the form that it is held to.

        Raises:
            ModelError: the tokenizer cannot write the form of the sampling.
        """
        if sampling.form is None:
            return self.ends
        vocabulary = self.network.get_output_embeddings().weight.shape[0]
        return answer_form(self.tokenizer, sampling.form, self.ends, vocabulary)

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return next(self.network.parameters()).device

    @property
    def parameters(self) -> int:
        """Number of parameters of the network."""
        return sum(weight.numel() for weight in self.network.parameters())

    @property
    def head(self) -> Head:
        """The output head, from hidden states to logits."""
        return body_and_head(self.network)[1]

    @cached_property
    def ends_word(self) -> torch.Tensor:
        """Whether a word is over if a token comes next: float (vocabulary,), 1 or 0."""
        texts = token_texts(self.tokenizer, len(self.tokenizer))
        ends = torch.tensor([not (text[:1].isalpha() or text[:1] == "-") for text in texts], dtype=torch.float32)
        size = self.network.get_output_embeddings().weight.shape[0]
        return torch.nn.functional.pad(ends, (0, size - len(ends)))

    @cached_property
    def width(self) -> int:
        """Width of the residual stream (size of a hidden state)."""
        return int(self.network.config.get_text_config().hidden_size)

    @cached_property
    def longest_context(self) -> int | None:
        """Most tokens that the network takes at once; None if its config does not say."""
        found = getattr(self.network.config.get_text_config(), "max_position_embeddings", None)
        return None if found is None else int(found)

    def check_fits(self, contexts: Sequence[Sequence[int]], fix: str) -> None:
        """Refuse contexts that are longer than the network takes.

        Args:
            contexts: token ids of each context.
            fix: what the user can do about it, for the message.

        Raises:
            ConfigError: a context is longer than the network takes.
        """
        longest, limit = max(map(len, contexts), default=0), self.longest_context
        if limit is not None and longest > limit:
            raise ConfigError("The text is longer than the model's context.", f"{longest} of {limit} tokens", fix)

    def render(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Turn prompts into token ids, up to the place where the answer begins; equal ones are rendered once."""
        distinct: dict[Prompt, int] = {}
        places = [distinct.setdefault(prompt, len(distinct)) for prompt in prompts]
        rendered = self.tokens.render(list(distinct))
        return [list(rendered[place]) for place in places]

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into token ids as at the beginning of an answer, without special tokens."""
        return self.tokens.tokenise(texts)

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        """Turn rows into token ids; the completion ends with the token that ends a turn."""
        return self.tokens.encode(rows)

    def chat(
        self, prompts: Sequence[Prompt], *, sampling: Sampling, seed: int, advance: Advance | None = None
    ) -> list[str]:
        """Draw one completion per prompt; the same seed gives the same texts.

        Args:
            prompts: the prompts, each a tuple of turns.
            sampling: temperature, longest answer, form and top_p.
            seed: random seed of the draw.
            advance: callback with (completions done, all prompts); None for no callback.
        """
        ends, asked = self.endings(sampling), self.render(prompts)
        tokens = sample_tokens(self.network, asked, sampling=sampling, seed=seed, ends=ends, advance=advance)
        return [text.removeprefix(self.chat_format.space) for text in self.texts_of(tokens)]

    def texts_of(self, answers: Iterable[Sequence[int]]) -> list[str]:
        """Turn the token ids of answers into texts, without special tokens; equal answers are decoded once."""
        distinct: dict[tuple[int, ...], int] = {}
        places = [distinct.setdefault(tuple(answer), len(distinct)) for answer in answers]
        texts: list[str] = self.tokenizer.batch_decode(list(map(list, distinct)), skip_special_tokens=True)
        return [texts[place] for place in places]

    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]:
        """Return log p(completion | prompt) in nats for each pair, without the end of the turn.

        Args:
            prompts: the prompts, each a tuple of turns.
            completions: one completion for each prompt.
        """
        rows = self.tokens.pairs(prompts, completions)
        return [float(logp.sum()) for logp in self.token_logprobs(rows)]

    @torch.no_grad()
    def token_logprobs(self, rows: Sequence[Encoded]) -> list[torch.Tensor]:
        """Return log p of every completion token in nats: one float32 tensor (tokens,) for each row."""
        if repeat(self.network, rows):
            return completion_logprobs(self.network, rows)
        found: list[torch.Tensor] = [torch.empty(0)] * len(rows)
        body, head = body_and_head(self.network)
        # Rows of like lengths together, so that little of a batch is padding.
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        for start in range(0, len(order), SCORE_BATCH):
            picked = order[start : start + SCORE_BATCH]
            sizes = [len(rows[index].completion) for index in picked]
            tokens = padded([rows[index].prompt + rows[index].completion for index in picked], self.device)
            at = torch.tensor(
                [(place, len(rows[index].prompt) - 1 + token)
                 for place, index in enumerate(picked) for token in range(len(rows[index].completion))],
                device=self.device,
            ).reshape(-1, 2)  # fmt: skip
            states = body(input_ids=tokens, use_cache=False).last_hidden_state[at[:, 0], at[:, 1]]
            values = head.logprobs(states, tokens[at[:, 0], at[:, 1] + 1]).cpu()
            for index, logp in zip(picked, values.split(sizes), strict=True):
                found[index] = logp
        return found

    @torch.no_grad()
    def next_token_logprobs(self, contexts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the log-probabilities of the token after each context.

        Args:
            contexts: token ids of each context: rendered prompts, with or without the beginning of an answer.

        Returns:
            float [contexts, vocabulary], in nats.
        """
        head = self.head
        return torch.cat([torch.log_softmax(head(read.ends), dim=-1).cpu() for read in self._read(contexts)])

    def mean_states(self, contexts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the residual stream after the last token of each context, averaged over the contexts.

        Args:
            contexts: token ids of each context, at least one.

        Returns:
            float64 [layers + 1, width]; layer 0 is the embeddings.
        """
        sums = [read.layers for read in self._read(contexts, layers=True) if read.layers is not None]
        return torch.stack(sums).sum(dim=0) / len(contexts)

    def _read(self, contexts: Sequence[Sequence[int]], layers: bool = False) -> Iterator[Contexts]:
        for some in context_blocks(self.network, contexts, NOTHING):
            yield open_contexts(self.network, some, NOTHING, layers=layers)

    def with_adapter(self, folder: Path, name: str | None = None) -> "LocalModel":
        """Return a copy with a PEFT adapter merged into the weights, or with a steering vector.

        The copy has the tokenizer and the chat template that the adapter's folder brings, if it brings any. It has the
        system policy that the adapter was trained with, unless this model's reference names one.

        Args:
            folder: folder of the adapter or of the steering vector.
            name: name of the adapter in the copy's reference; None takes the folder.

        Raises:
            ModelError: the folder holds no adapter or steering vector of this model, or one of a kind that is not read.
        """
        ref = replace(self.ref, adapter=name or str(folder))
        if (folder / STEERING).exists():
            return LocalModel(ref, steered(self.network, *load_vector(folder)), self.tokenizer)
        adapter = read_adapter(folder)
        network = merge_adapter(self.network, adapter, self.ref.name)
        rows = network.get_input_embeddings().weight.shape[0]
        tokenizer = own_tokenizer(self.tokenizer, adapter, rows, keep_template=ref.template is not None)
        return LocalModel(replace(ref, system=ref.system or adapter.notes.get("system")), network, tokenizer)

    def save(self, folder: Path) -> None:
        """Write weights and tokenizer into an ordinary folder of transformers."""
        self.network.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
