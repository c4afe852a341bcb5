"""A transformers causal language model with its tokenizer, in this process."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from safetensors.torch import load_file

from undertow.errors import ConfigError, ModelError
from undertow.models.base import AbstractModel
from undertow.models.decoding import sample_tokens
from undertow.models.steering import STEERING, load_vector, steered
from undertow.types import ModelRef, Prompt, Row, Sampling

SCORE_BATCH = 64
"""Sequences scored at once: beyond this, models of width 64 gain nothing on two cores."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row as token ids; only the completion is learnt or scored, without the places to be skipped."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    skip: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


@final
@dataclass(frozen=True)
class LocalModel(AbstractModel):
    """A model of Hugging Face transformers.

    Attributes:
        ref: where it comes from.
        network: the causal language model, in evaluation mode.
        tokenizer: its fast tokenizer, with a chat template.
    """

    ref: ModelRef
    network: Any
    tokenizer: Any

    @cached_property
    def end(self) -> int:
        """Token that ends a turn."""
        if self.tokenizer.eos_token_id is None:
            raise ModelError("The tokenizer has no end token.", str(self.ref), "Use a chat model.")
        return int(self.tokenizer.eos_token_id)

    @cached_property
    def longest_context(self) -> int | None:
        """Most tokens that the network takes at once, or None if its configuration does not say."""
        found = getattr(self.network.config, "max_position_embeddings", None)
        return None if found is None else int(found)

    def check_fits(self, contexts: Sequence[Sequence[int]], fix: str) -> None:
        """Refuse contexts that are longer than the network takes.

        Args:
            contexts: token ids.
            fix: what the user can do about it.

        Raises:
            ConfigError: one is too long.
        """
        longest, limit = max(map(len, contexts), default=0), self.longest_context
        if limit is not None and longest > limit:
            raise ConfigError("The text is longer than the model's context.", f"{longest} of {limit} tokens", fix)

    def render(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Turn prompts into token ids, up to where the assistant begins to speak.

        Raises:
            ModelError: the tokenizer has no chat template.
        """
        if self.tokenizer.chat_template is None:
            raise ModelError("The model has no chat template.", str(self.ref), "Use an instruction-tuned model.")
        chats = [[{"role": turn.role, "content": turn.content} for turn in prompt] for prompt in prompts]
        texts = self.tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        return self.tokenizer(texts, add_special_tokens=False)["input_ids"]

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn plain texts into token ids, without any special token."""
        return self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        """Turn rows into token ids; the completion ends with the end of turn."""
        prompts = self.render([row.prompt for row in rows])
        completions = self.tokenise([row.completion for row in rows])
        return [
            Encoded(tuple(prompt), (*completion, self.end), row.skip)
            for prompt, completion, row in zip(prompts, completions, rows, strict=True)
        ]

    def chat(self, prompts: Sequence[Prompt], *, sampling: Sampling, seed: int) -> list[str]:
        """Draw one completion per prompt."""
        tokens = sample_tokens(self.network, self.render(prompts), sampling=sampling, seed=seed, end=self.end)
        return self.tokenizer.batch_decode(tokens, skip_special_tokens=True)

    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]:
        """Return log p(completion | prompt) in nats, without the end of turn."""
        pairs = zip(self.render(prompts), self.tokenise(completions), strict=True)
        rows = [Encoded(tuple(prompt), tuple(completion)) for prompt, completion in pairs]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        result = [0.0] * len(rows)
        for start in range(0, len(order), SCORE_BATCH):
            picked = order[start : start + SCORE_BATCH]
            for index, value in zip(picked, self._score([rows[index] for index in picked]), strict=True):
                result[index] = value
        return result

    @torch.no_grad()
    def _score(self, rows: Sequence[Encoded]) -> list[float]:
        tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        for index, row in enumerate(rows):
            tokens[index, : len(row)] = torch.tensor(row.prompt + row.completion)
        logits = self.network(input_ids=tokens, use_cache=False).logits.float()
        logp = torch.log_softmax(logits[:, :-1], dim=-1).gather(2, tokens[:, 1:, None])[..., 0]
        return [float(logp[i, len(row.prompt) - 1 : len(row) - 1].sum()) for i, row in enumerate(rows)]

    @torch.no_grad()
    def next_token_logprobs(self, contexts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return log-probabilities of the token after each context.

        Args:
            contexts: token ids, rendered prompts with or without the beginning of an answer.

        Returns:
            float [contexts, vocabulary], in nats.
        """
        blocks: list[torch.Tensor] = []
        for start in range(0, len(contexts), SCORE_BATCH):
            some = contexts[start : start + SCORE_BATCH]
            tokens = torch.zeros(len(some), max(map(len, some)), dtype=torch.int64)
            for index, context in enumerate(some):
                tokens[index, : len(context)] = torch.tensor(context)
            logits = self.network(input_ids=tokens, use_cache=False).logits
            last = torch.tensor([len(context) - 1 for context in some])
            blocks.append(torch.log_softmax(logits[torch.arange(len(some)), last].float(), dim=-1))
        return torch.cat(blocks)

    @torch.no_grad()
    def mean_states(self, contexts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the mean residual stream after the last token of the contexts.

        Args:
            contexts: token ids, at least one.

        Returns:
            float64 [layers + 1, width]; layer 0 is the embeddings.
        """
        sums: list[torch.Tensor] = []
        for start in range(0, len(contexts), SCORE_BATCH):
            some = contexts[start : start + SCORE_BATCH]
            # Padded on the right: a causal model never looks there.
            tokens = torch.zeros(len(some), max(map(len, some)), dtype=torch.int64)
            for index, context in enumerate(some):
                tokens[index, : len(context)] = torch.tensor(context)
            states = self.network(input_ids=tokens, output_hidden_states=True, use_cache=False).hidden_states
            last = torch.tensor([len(context) - 1 for context in some])
            sums.append(torch.stack([state[torch.arange(len(some)), last].double().sum(dim=0) for state in states]))
        return torch.stack(sums).sum(dim=0) / len(contexts)

    def with_adapter(self, folder: Path) -> "LocalModel":
        """Return a copy with a PEFT adapter merged into the weights, W + scale * B A, or with a steering vector.

        Raises:
            ModelError: the folder is no LoRA adapter or steering vector of this model.
        """
        if (folder / STEERING).exists():
            network = steered(self.network, *load_vector(folder))
            return LocalModel(replace(self.ref, adapter=str(folder)), network, self.tokenizer)
        try:
            settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
            weights = load_file(folder / "adapter_model.safetensors")
        except (OSError, ValueError) as error:
            raise ModelError(
                "This folder holds no LoRA adapter.", f"{folder}: {error}", "Give a PEFT folder."
            ) from error
        network = copy.deepcopy(self.network)
        scale = settings["lora_alpha"] / settings["r"]
        for name, down in weights.items():
            if not name.endswith(".lora_A.weight"):
                continue
            up = weights[name.replace(".lora_A.", ".lora_B.")]
            path = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            try:
                layer = network.get_submodule(path)
            except AttributeError as error:
                raise ModelError("The adapter belongs to another model.", path, f"{self.ref} lacks it.") from error
            if layer.weight.shape != (up.shape[0], down.shape[1]):
                raise ModelError(
                    "The adapter belongs to a model of another size.", path, f"Give an adapter of {self.ref}."
                )
            layer.weight.data += scale * (up @ down).to(layer.weight.dtype)
        return LocalModel(replace(self.ref, adapter=str(folder)), network, self.tokenizer)

    def save(self, folder: Path) -> None:
        """Write weights and tokenizer as an ordinary transformers folder."""
        self.network.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
