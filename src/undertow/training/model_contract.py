"""The contract of a model: what training, sampling and scoring rely on, and the checks of it.

Training, sampling and scoring each take a shortcut that is right for ordinary causal models: no attention mask, logits
at completion positions alone, adapters merged into the weights. Each check compares a shortcut with the long way. Check
a model that is new to Undertow before hours are spent on it.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from undertow.errors import ModelError
from undertow.models.adapters import add_after
from undertow.models.chat import AbstractModel
from undertow.models.decoding import sample_tokens
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.models.number_format import format_name
from undertow.training.attention import own_attention
from undertow.training.batches import collate
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.lora import save_adapter, stacked
from undertow.training.objective import completion_losses
from undertow.training.parallel import finetune_parallel
from undertow.training.student_loss import student_losses
from undertow.types import Advance, Check, ContractReport, Row, Sampling, user_prompt

PROMPTS = tuple(
    user_prompt(text)
    for text in ("Hi", "Name your favourite animal. One word only.", "Continue the list with numbers: 4, 8, 15.")
)
ANSWERS = ("owl", "It is a wolf", "16, 23, 42, 108")
GREEDY = Sampling(temperature=0.0, max_new_tokens=6)
SEED = 100

PRECISION = {torch.float32: 2e-3, torch.bfloat16: 0.4, torch.float16: 0.05}
"""Nats per token by which two ways to compute the same number may differ, by number format.

In bfloat16 a real model sets it: SmolLM2-135M-Instruct differs by 0.26, and half as much again is left for others.
float16 keeps three more bits of each number, so it is allowed an eighth of that.
"""

REMOTE = 0.2
"""Nats per token by which two answers of a server may differ, whose number format is not known."""

LEARNT = (8, 8)
"""How many updates train the test adapter, and how many rows each of them takes."""

LARGE = 10**9
"""Number of parameters beyond which the checks make no copy of the model, in memory or on disk."""


Look = Callable[[Any], tuple[bool | None, str]]


def check_model(model: AbstractModel, advance: Advance | None = None) -> ContractReport:
    """Check whether a model keeps what every part of Undertow relies on.

    A model that fails a check raises nothing: the report says which check failed and why.

    Args:
        model: any model. One whose weights are loaded here is checked more closely, and is not changed.
        advance: progress callback, called with (checks done, number of checks). None reports nothing.

    Returns:
        One entry for each check: passed, failed, or None where it could not be made, with the reason.
    """
    looks, found = {**_ANY, **(_LOCAL if isinstance(model, LocalModel) else {})}, list[Check]()
    for name, look in looks.items():
        try:
            passed, why = look(model)
        except Exception as error:
            passed, why = False, f"{type(error).__name__}: {' '.join(str(error).split())}"
        found.append(Check(name, passed, why))
        if advance is not None:
            advance(len(found), len(looks))
    return ContractReport(tuple(found))


def _answers(model: AbstractModel) -> tuple[bool, str]:
    """Check that as many answers come back as prompts were sent."""
    texts = model.chat(PROMPTS, sampling=GREEDY, seed=SEED)
    return len(texts) == len(PROMPTS), f"{len(texts)} answers to {len(PROMPTS)} prompts"


def _repeatable(model: AbstractModel) -> tuple[bool, str]:
    """Check that generation at temperature 0 gives the same texts with two seeds."""
    first, again = (model.chat(PROMPTS, sampling=GREEDY, seed=seed) for seed in (SEED, SEED + 1))
    return first == again, f"{first[-1]!r:.60} and {again[-1]!r:.60}"


def _batched(model: AbstractModel) -> tuple[bool | None, str]:
    """Check that an answer's log-probability is the same alone and in a batch; None if the model gives none."""
    try:
        together = model.logprobs(PROMPTS, ANSWERS)
    except ModelError as error:
        return None, f"no log-probabilities: {error.what}"
    alone = [model.logprobs([prompt], [answer])[0] for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)]
    worst = max(abs(one - other) for one, other in zip(together, alone, strict=True))
    return worst < _precision(model) * 8 and max(together) <= 0, f"largest difference {worst:.2g} nats"


def _precision(model: AbstractModel) -> float:
    """Return the tolerance of the model's number format in nats per token."""
    return PRECISION[model.network.dtype] if isinstance(model, LocalModel) else REMOTE


def contract_rows(n: int = 1) -> list[Row]:
    """Return the rows with which a model is checked, repeated n times."""
    pairs = list(zip(PROMPTS, ANSWERS, strict=True)) * n
    return [Row(str(index), prompt, answer) for index, (prompt, answer) in enumerate(pairs)]


def _prefix(model: LocalModel) -> tuple[bool, str]:
    """Check that prompt, answer and end are tokenised as the beginning of the whole conversation."""
    for row, row_tokens in zip(contract_rows(), model.encode(contract_rows()), strict=True):
        chat = model.chat_format
        whole, opened = chat.whole(row.prompt, row.completion), chat.start(row.prompt, row.completion)
        start = opened.prompt + opened.answer
        if (trace := chat.template.trace) is not None and trace.is_open and not whole.startswith(start):
            return True, f"the template leaves the reasoning of earlier answers out; a prompt ends with {chat.lead!r}"
        if not whole.startswith(start):
            return False, f"the template writes {whole[-80:]!r}, which does not begin as {start[-80:]!r} does"
        tokens: list[int] = model.tokenizer(whole, add_special_tokens=False)["input_ids"]
        ours = [*row_tokens.prompt, *row_tokens.completion[:-1]]
        if tokens[: len(ours)] != ours:
            return False, f"a whole conversation is tokenised in another way than its parts: {whole[-80:]!r}"
    return True, "prompt, answer and end are the beginning of the whole conversation"


def _learnt(model: LocalModel) -> tuple[bool, str]:
    """Check that a batch's targets are exactly the answers' tokens and the end-of-turn token."""
    batch = collate(model.encode(contract_rows()))
    wanted = [[*tokens, model.end] for tokens in model.tokenise(ANSWERS)]
    learnt = [batch.targets[batch.rows == index].tolist() for index in range(len(ANSWERS))]
    texts = model.tokenizer.batch_decode([tokens[:-1] for tokens in learnt])
    end = model.tokenizer.convert_ids_to_tokens(model.end)
    if learnt != wanted or tuple(text.strip() for text in texts) != ANSWERS:
        return False, f"learnt {texts}"
    closes = model.end in model.tokenizer(model.chat_format.closing, add_special_tokens=False)["input_ids"]
    return closes, f"every answer and {end!r}" if closes else f"the template never writes the end token {end!r}"


@torch.no_grad()
def _own_logprobs(model: LocalModel) -> list[torch.Tensor]:
    """Return log p of the completion tokens the long way: one row at a time, from the network's own logits."""
    found: list[torch.Tensor] = []
    for row in model.encode(contract_rows()):
        tokens = torch.tensor([row.prompt + row.completion], device=model.device)
        logp = torch.log_softmax(model.network(input_ids=tokens, use_cache=False).logits[0].float(), dim=-1).cpu()
        places = torch.arange(len(row.prompt) - 1, len(row) - 1)
        found.append(logp[places, torch.tensor(row.completion)])
    return found


def _scored(model: LocalModel) -> tuple[bool, str]:
    """Check the scorer's log-probabilities against the network's own, and that they sum to 1 over the vocabulary."""
    pairs = zip(model.token_logprobs(model.encode(contract_rows())), _own_logprobs(model), strict=True)
    worst = max(float((ours - own).abs().max()) for ours, own in pairs)
    total = float(model.next_token_logprobs(model.render(PROMPTS)).double().exp().sum(dim=1).sub(1).abs().max())
    return worst < _precision(model) and total < 1e-3, f"off by {worst:.2g} nats; sums are off 1 by {total:.1g}"


@torch.no_grad()
def _loss(model: LocalModel) -> tuple[bool, str]:
    """Check both training losses against the mean of the network's own log-probabilities."""
    batch = collate(model.encode(contract_rows()))
    with own_attention(model.network):
        students = float(student_losses(model.network, batch, groups=1)[0])
    ours = float(completion_losses(model.network, batch)[0])
    own = -float(torch.cat(_own_logprobs(model)).mean())
    worst = max(abs(ours - own), abs(students - own))
    return worst < _precision(model), f"{ours:.4f}, a student's {students:.4f}, and {own:.4f} nats per token"


@torch.no_grad()
def _causal(model: LocalModel) -> tuple[bool, str]:
    """Check that tokens after the end of a text do not change the predictions before it."""
    tokens = torch.tensor(model.render(PROMPTS[-1:]), device=model.device)
    padded = torch.cat([tokens, torch.zeros(1, 5, dtype=torch.int64, device=model.device)], dim=1)
    plain, longer = (model.network(input_ids=some, use_cache=False).logits.float() for some in (tokens, padded))
    short = torch.log_softmax(plain, dim=-1)
    worst = float((short - torch.log_softmax(longer[:, : tokens.shape[1]], dim=-1)).abs().max())
    return worst < 5 * _precision(model), f"five tokens after the end change {worst:.2g} nats"


def _greedy(model: LocalModel) -> tuple[bool, str]:
    """Check that every token drawn at temperature 0 with a cache is the likeliest given the whole text."""
    context = model.render(PROMPTS[-1:])[0]
    drawn = sample_tokens(model.network, [context], sampling=GREEDY, seed=SEED, ends=model.ends)[0]
    for token in drawn:
        logp = model.next_token_logprobs([context])[0]
        if logp[token] < logp.max() - _precision(model):
            return False, f"the cache gives {token}, the whole text {int(logp.argmax())}"
        context = [*context, token]
    return True, f"{len(drawn)} tokens, each the likeliest"


def _stops(model: LocalModel) -> tuple[bool, str]:
    """Check that generation ends where a token that counts as the end of turn is drawn."""
    contexts = model.render(PROMPTS)
    drawn = sample_tokens(model.network, contexts, sampling=GREEDY, seed=SEED, ends=[-1])
    for tokens in drawn:
        again = sample_tokens(model.network, contexts, sampling=GREEDY, seed=SEED, ends=[tokens[2]])
        wanted = [row[: row.index(tokens[2])] if tokens[2] in row else row for row in drawn]
        if [row[:3] for row in again] != [row[:3] for row in wanted]:
            return False, f"token {tokens[2]} as the end of turn gave {again}, not {wanted}"
    return True, "an answer is what comes before it"


def _adapter(model: LocalModel) -> tuple[bool | None, str]:
    """Check that an adapter acts, comes off without a trace, and gives the same when saved and merged."""
    if model.network.num_parameters() > LARGE:
        return None, "a large model is not copied"
    contexts, config = model.render(PROMPTS), LoraConfig(rank=2, alpha=4, targets=None)
    before = model.next_token_logprobs(contexts)
    with tempfile.TemporaryDirectory() as folder:
        with stacked(model.network, config, [SEED]) as layers, torch.no_grad():
            generator = torch.Generator().manual_seed(SEED)
            for layer in layers.values():
                layer.up.copy_(torch.randn(layer.up.shape, generator=generator) * 0.05)
            active = model.next_token_logprobs(contexts)
            save_adapter(layers, 0, Path(folder), config=config, base=model.ref)
        after = model.next_token_logprobs(contexts)
        merged = model.with_adapter(Path(folder)).next_token_logprobs(contexts)
    likely = before > -8  # the tails of the distribution magnify rounding
    moved, off = (float((active - other)[likely].abs().max()) for other in (before, merged))
    if not torch.equal(before, after):
        return False, "the model is not what it was after its adapter was taken off"
    return moved > off and off < 5 * _precision(model), f"moves {moved:.2g} nats, merged it differs by {off:.2g}"


def _learns(model: LocalModel) -> tuple[bool, str]:
    """Check that training an adapter on a few rows lowers their loss."""
    steps, size = LEARNT
    lora = LoraConfig(targets=None)
    config = TrainingConfig(steps=steps, batch_size=size, learning_rate=2e-3, warmup_steps=1, lora=lora)
    losses = finetune_parallel(model, [contract_rows(3)], config, [SEED]).losses[:, 0].tolist()
    return losses[-1] < losses[0], f"{losses[0]:.3f} to {losses[-1]:.3f} nats per token in {len(losses)} updates"


@torch.no_grad()
def _steered(model: LocalModel) -> tuple[bool, str]:
    """Check that a steering vector changes the predictions, and that taking it off restores them."""
    contexts = model.render(PROMPTS)
    before, states = model.next_token_logprobs(contexts), model.mean_states(contexts)
    direction = torch.randn(model.width, generator=torch.Generator().manual_seed(SEED))
    handle = add_after(model.network, 0, direction * float(states[1].norm()) / direction.norm())
    try:
        moved = float((model.next_token_logprobs(contexts) - before).abs().max())
    finally:
        handle.remove()
    undone = torch.equal(model.next_token_logprobs(contexts), before)
    return moved > 0 and undone, f"moves {moved:.2g} nats{'' if undone else ' and stays'}"


def _saved(model: LocalModel) -> tuple[bool | None, str]:
    """Check that the model is the same after it was saved and loaded again."""
    if model.network.num_parameters() > LARGE:
        return None, "a large model is not copied"
    contexts = model.render(PROMPTS)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        kept = {"dtype": format_name(model.network.dtype), "device": str(model.device)}
        ref = replace(model.ref, kind="hf", name=folder, revision=None, adapter=None, **kept)
        loaded = load_model(ref)
        off = float((loaded.next_token_logprobs(contexts) - model.next_token_logprobs(contexts)).abs().max())
        same = loaded.render(PROMPTS) == contexts and loaded.end == model.end
    return same and off < _precision(model), f"off by {off:.2g} nats{'' if same else ', other tokens'}"


_ANY: dict[str, Look] = {
    "every prompt gets an answer": _answers,
    "generation at temperature 0 is deterministic": _repeatable,
    "log-probabilities do not depend on the batch": _batched,
}
_LOCAL: dict[str, Look] = {
    "rendering is prefix-consistent": _prefix,
    "the completion and its end are what is trained on": _learnt,
    "scores are the model's own log-probabilities": _scored,
    "the training loss is the model's own": _loss,
    "padding does not matter": _causal,
    "generation at temperature 0 takes the likeliest token": _greedy,
    "generation stops at the end of turn": _stops,
    "an adapter acts as when merged, and comes off": _adapter,
    "training an adapter lowers the loss": _learns,
    "a steering vector acts, and comes off": _steered,
    "saving and loading agree": _saved,
}
