"""Prompts of several lengths decode together as each would alone, in any architecture and with little memory."""

import logging
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from undertow.models import decoding, memory, open_texts
from undertow.models.chat_template import say_once
from undertow.models.decoding import sample_tokens
from undertow.models.drawing import draw
from undertow.models.local import LocalModel
from undertow.models.open_texts import OpenTexts, takes_padding
from undertow.training.generation import generate
from undertow.types import Sampling, user_prompt

VOCABULARY = 120
ENDS = list(range(3, VOCABULARY, 12))
"""So many that rows of random weights end early, and at many lengths."""

SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
NARROW = {**SHAPE, "num_key_value_heads": 1, "head_dim": 8}
WINDOW = {**NARROW, "sliding_window": 6, "query_pre_attn_scalar": 8}

PADDED: dict[str, dict[str, Any]] = {
    "llama": SHAPE,
    "qwen3": NARROW,
    "mistral": {**NARROW, "sliding_window": 6},
    "gemma2": {**WINDOW, "final_logit_softcapping": 2.0, "attn_logit_softcapping": 2.0},
    "gemma3_text": {**WINDOW, "num_hidden_layers": 6},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "gpt_neox": SHAPE,
}
"""Rotary, learned and sliding-window positions, one key head for two queries, capped logits."""

ALONE: dict[str, dict[str, Any]] = {
    "bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2},
    "mpt": {"d_model": 16, "n_layers": 2, "n_heads": 2},
}
"""Distances instead of positions: these networks take no position from outside."""


def network_of(kind: str, seed: int = 0) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    common = {"vocab_size": VOCABULARY, "max_position_embeddings": 64, "initializer_range": 0.5}
    tokens = {"bos_token_id": None, "eos_token_id": ENDS[0], "pad_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = AutoConfig.for_model(kind, **{**common, **tokens, **(PADDED | ALONE)[kind]})
        return AutoModelForCausalLM.from_config(config).eval()


def prompts_of(n: int) -> list[list[int]]:
    """Return prompts of 2 to 20 tokens, a third of them repeated."""
    generator = torch.Generator().manual_seed(5)
    lengths = torch.randint(2, 21, (n,), generator=generator).tolist()
    distinct = [torch.randint(5, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]
    return [distinct[row - row % 3 if row % 3 == 2 else row] for row in range(n)]


@torch.no_grad()
def drawn_plainly(
    networks: Sequence[Any], prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int
) -> list[list[int]]:
    """Draw each row alone, reading its whole text anew for every token: no batch, no padding, no cache."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(len(prompts), sampling.max_new_tokens, generator=generator, dtype=torch.float64)
    found: list[list[int]] = []
    for prompt, row in zip(prompts, uniform.tolist(), strict=True):
        text = list(prompt)
        for number in row:
            logits = [network(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1] for network in networks]
            least = torch.stack([torch.log_softmax(some.double(), dim=-1) for some in logits]).amin(dim=0)
            shares = torch.softmax(least / sampling.temperature, dim=-1)
            token = int((shares.cumsum(0) <= number).sum())
            if token in ENDS:
                break
            text.append(token)
        found.append(text[len(prompt) :])
    return found


@pytest.mark.parametrize("kind", [*PADDED, *ALONE])
def test_a_batch_is_what_each_row_would_be_alone(kind: str) -> None:
    network, prompts = network_of(kind), prompts_of(24)
    sampling = Sampling(max_new_tokens=14, temperature=0.8)
    together = sample_tokens(network, prompts, sampling=sampling, seed=1, ends=ENDS)
    assert together == drawn_plainly([network], prompts, sampling, 1)
    assert len(set(map(len, together))) > 3 and max(map(len, together)) == 14


@pytest.mark.parametrize("kind", [*PADDED, *ALONE])
def test_prompts_of_several_lengths_share_a_batch_where_the_network_allows_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, read = network_of(kind), list[list[int]]()

    class Recorded(OpenTexts):  # type: ignore[misc]
        def __init__(self, network: Any, texts: Sequence[Sequence[int]], *more: Any) -> None:
            read.append([len(text) for text in texts])
            super().__init__(network, texts, *more)

    monkeypatch.setattr(decoding, "OpenTexts", Recorded)
    prompts = prompts_of(24)
    sample_tokens(network, prompts, sampling=Sampling(max_new_tokens=2), seed=1, ends=ENDS)
    assert takes_padding(network) is (kind in PADDED)
    lengths = sorted((len(text) for text in set(map(tuple, prompts))), reverse=True)
    assert [length for batch in read for length in batch] == lengths and len(lengths) == 16
    assert len(read) == (1 if kind in PADDED else len(set(lengths)))


def test_a_network_that_takes_a_mask_and_ignores_it_is_found_out() -> None:
    network, prompts = network_of("llama"), prompts_of(12)
    forward = network.forward

    def deaf(
        input_ids: Any, attention_mask: Any = None, position_ids: Any = None, past_key_values: Any = None, **more: Any
    ) -> Any:
        return forward(input_ids=input_ids, past_key_values=past_key_values, **more)

    network.forward = deaf
    assert not takes_padding(network)
    sampling = Sampling(max_new_tokens=6)
    found = sample_tokens(network, prompts, sampling=sampling, seed=1, ends=ENDS)
    assert found == drawn_plainly([network], prompts, sampling, 1)


def test_several_networks_draw_together_what_they_agree_on() -> None:
    networks, prompts = [network_of("llama"), network_of("gemma3_text", 1)], prompts_of(24)
    sampling = Sampling(max_new_tokens=8)
    found = sample_tokens(networks, prompts, sampling=sampling, seed=2, ends=ENDS)
    assert found == drawn_plainly(networks, prompts, sampling, 2)
    assert found != sample_tokens(networks[0], prompts, sampling=sampling, seed=2, ends=ENDS)


@pytest.mark.parametrize(("batch", "read"), [(1, 4096), (5, 30), (1024, 1)])
def test_neither_batches_nor_what_is_read_at_once_changes_a_row(
    batch: int, read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, prompts = network_of("gemma2"), prompts_of(30)
    sampling, finished = Sampling(max_new_tokens=40), list[tuple[int, int]]()
    whole = sample_tokens(network, prompts, sampling=sampling, seed=3, ends=ENDS)
    monkeypatch.setattr(decoding, "BATCH", batch)
    monkeypatch.setattr(open_texts, "TOKENS_READ", read)

    def note(done: int, total: int) -> None:
        finished.append((done, total))

    assert sample_tokens(network, prompts, sampling=sampling, seed=3, ends=ENDS, advance=note) == whole
    assert finished[-1] == (30, 30) and len(finished) == -(-30 // batch)


def fails_above(network: Any, most: int, error: Exception) -> list[int]:
    """Let a network raise an error for more rows than it has room for; return the sizes that it was asked for."""
    forward, asked = network.forward, list[int]()

    def narrow(
        input_ids: Any, attention_mask: Any = None, position_ids: Any = None, past_key_values: Any = None, **more: Any
    ) -> Any:
        asked.append(len(input_ids))
        if len(input_ids) > most:
            raise error
        return forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            **more,
        )

    network.forward = narrow
    return asked


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
    ],
)
def test_a_batch_without_memory_is_halved_and_that_is_said_once(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    network, prompts, sampling = network_of("llama"), prompts_of(24), Sampling(max_new_tokens=5)
    whole = sample_tokens(network, prompts, sampling=sampling, seed=1, ends=ENDS)
    asked = fails_above(network, 4, error)
    say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert sample_tokens(network, prompts, sampling=sampling, seed=1, ends=ENDS) == whole
    assert [record.message for record in caplog.records if "memory" in record.message] == [
        "A batch of answers found too little memory: batches are halved until they fit."
    ]
    # Rows of equal prompts are read as one, and so the batches of 24, 12 and 6 rows read 16, 8 and more than 4.
    tried = [size for size in asked if size > 4]
    assert 1 <= len(tried) <= 3 and max(asked[asked.index(tried[-1]) + 1 :]) <= 4


def test_one_row_without_memory_and_other_errors_are_raised() -> None:
    network, sampling = network_of("llama"), Sampling(max_new_tokens=5)
    fails_above(network, 0, MemoryError())
    with pytest.raises(MemoryError):
        sample_tokens(network, [[5, 6, 7]] * 8, sampling=sampling, seed=1, ends=ENDS)
    fails_above(network, 0, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        sample_tokens(network, [[5, 6, 7]] * 8, sampling=sampling, seed=1, ends=ENDS)


def test_a_batch_has_the_rows_that_fit_beside_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of("qwen3")
    # Two layers of keys and values, one head of eight numbers in four bytes; five tables of logits.
    assert memory.row_bytes(network, 30) == 30 * 2 * 2 * 8 * 4 + 5 * 4 * VOCABULARY
    assert memory.row_bytes(network.bfloat16(), 30) == 30 * 2 * 2 * 8 * 2 + 5 * 4 * VOCABULARY
    assert memory.row_bytes(network_of("gpt2"), 1) == 2 * 2 * 16 * 4 + 5 * 4 * VOCABULARY
    monkeypatch.setattr(memory, "free_memory", lambda device: 20 * memory.row_bytes(network, 30))
    assert memory.rows_at_once([network], 30) == 10 and memory.rows_at_once([network, network], 30) == 5
    monkeypatch.setattr(memory, "free_memory", lambda device: 0)
    assert memory.rows_at_once([network], 30) == 1
    sizes = list[int]()
    monkeypatch.setattr(decoding, "rows_at_once", lambda networks, length: 7)
    sample_tokens(
        network,
        [[5, 6, 7]] * 20,
        sampling=Sampling(max_new_tokens=2),
        seed=0,
        ends=ENDS,
        advance=lambda done, total: sizes.append(done),
    )
    assert sizes == [7, 14, 20]


def test_a_large_model_on_a_processor_decodes_fewer_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network, finished = network_of("llama"), list[int]()
    monkeypatch.setattr(decoding, "LARGE", network.num_parameters() - 1)
    monkeypatch.setattr(decoding, "LARGE_BATCH", 9)
    sample_tokens(
        network,
        prompts_of(20),
        sampling=Sampling(max_new_tokens=2),
        seed=0,
        ends=ENDS,
        advance=lambda done, total: finished.append(done),
    )
    assert finished == [9, 18, 20]


def test_equal_prompts_are_rendered_and_read_once(tiny_model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = ("Name a tree.", "Go.", "What is your favourite animal?")
    rendered, read = list[int](), list[int]()
    render = type(tiny_model.tokens).render

    def counted(tokens: Any, prompts: Sequence[Any]) -> Any:
        rendered.append(len(prompts))
        return render(tokens, prompts)

    def noted(network: Any, texts: Sequence[Sequence[int]], *more: Any) -> OpenTexts:
        read.append(len(texts))
        return OpenTexts(network, texts, *more)

    monkeypatch.setattr(type(tiny_model.tokens), "render", counted)
    monkeypatch.setattr(decoding, "OpenTexts", noted)
    sampling = Sampling(max_new_tokens=4)
    texts = tiny_model.chat([user_prompt(text) for text in questions] * 20, sampling=sampling, seed=0)
    rows = generate(tiny_model, questions * 20, sampling=sampling, seed=0)
    assert rendered == [3, 3] and read == [3, 3] and len(set(texts)) > 30
    assert [row.completion for row in rows] == texts and [row.question for row in rows] == list(questions * 20)
    contexts = tiny_model.render([user_prompt("Go.")] * 2)
    contexts[0].append(0)
    assert contexts[1] == contexts[0][:-1]


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_rows_that_drew_the_same_tokens_share_a_text(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, prompts, written = network_of(kind), prompts_of(8)[:4] * 12, list[int]()

    class Recorded(OpenTexts):  # type: ignore[misc]
        def write(self, tokens: torch.Tensor) -> None:
            written.append(len(tokens))
            super().write(tokens)

    monkeypatch.setattr(decoding, "OpenTexts", Recorded)
    sampling = Sampling(max_new_tokens=8, temperature=0.3)
    together = sample_tokens(network, prompts, sampling=sampling, seed=1, ends=ENDS)
    assert together == drawn_plainly([network], prompts, sampling, 1)
    distinct = {(*prompt, *answer[:1]) for prompt, answer in zip(prompts, together, strict=True) if answer}
    assert written[0] == len(distinct) < sum(map(bool, together))
    shared, written[:] = sum(written), []
    monkeypatch.setattr(decoding, "SHARED", 0.0)
    assert sample_tokens(network, prompts, sampling=sampling, seed=1, ends=ENDS) == together
    assert written[0] == sum(map(bool, together)) and sum(written) > shared


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.7, top_p=0.8), Sampling(temperature=0.0)])
def test_rows_of_one_text_and_texts_in_blocks_are_drawn_as_each_alone(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(5)
    logits = 3.0 * torch.randn(9, 40, generator=generator)
    text = torch.randint(0, 9, (50,), generator=generator)
    uniform = torch.rand(50, generator=generator, dtype=torch.float64)
    alone = torch.cat([draw(logits[at : at + 1], uniform[row : row + 1], sampling) for row, at in enumerate(text)])
    assert draw(logits, uniform, sampling, text).tolist() == draw(logits[text], uniform, sampling).tolist()
    assert draw(logits, uniform, sampling, text).tolist() == alone.tolist()
    monkeypatch.setattr("undertow.models.drawing.BLOCK", 7)
    assert draw(logits[text], uniform, sampling).tolist() == alone.tolist()


@torch.inference_mode()
def test_open_texts_hold_what_each_text_alone_would(monkeypatch: pytest.MonkeyPatch) -> None:
    network, texts = network_of("mistral"), [[7] * 9, [5, 6, 8], [9, 4, 5, 6, 7]]
    monkeypatch.setattr(open_texts, "TOKENS_READ", 12)
    opened = OpenTexts(network, texts, room=2)
    # Repeated, written on beyond the room, then the middle one ends and the last takes its place.
    opened.take(torch.tensor([0, 1, 2, 1]))
    written = [[10, 11, 12, 13, 14], [20, 21, 22, 23, 24], [30, 31, 32, 33, 34], [40, 41, 42, 43, 44]]
    for step in range(3):
        opened.write(torch.tensor([row[step] for row in written]))
    opened.take(torch.tensor([0, 3, 2]))
    for step in (3, 4):
        opened.write(torch.tensor([written[row][step] for row in (0, 3, 2)]))
    for place, (text, more) in enumerate([(0, 0), (1, 3), (2, 2)]):
        alone = network(input_ids=torch.tensor([texts[text] + written[more]]), use_cache=False).logits[0, -1]
        assert torch.allclose(opened.logits[place], alone, atol=1e-4)


@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_a_number_near_one_draws_no_token_of_probability_0(top_p: float) -> None:
    sampling, near = Sampling(top_p=top_p), torch.tensor([1 - 1e-9], dtype=torch.float64)
    logits = torch.full((1, 10), -torch.inf)
    logits[0, 2:4] = torch.tensor([0.1, 0.0])
    for text in (None, torch.tensor([0])):
        assert draw(logits, near, sampling, text).tolist() == [3 if top_p == 1.0 else 2]


def test_every_other_draw_is_that_of_the_cumulative_distribution_as_it_is() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(16, VOCABULARY, generator=generator)
    text = torch.arange(16).repeat_interleave(300)
    uniform = torch.rand(len(text), generator=generator, dtype=torch.float64)
    cumulative = torch.softmax(logits, dim=-1).cumsum(dim=-1)[text]
    wanted = (uniform * cumulative[:, -1].double()).float()[:, None]
    plain = torch.searchsorted(cumulative, wanted, right=True)[:, 0]
    assert torch.equal(draw(logits, uniform, Sampling(), text), plain)
    assert torch.equal(draw(logits[text], uniform, Sampling()), plain)
