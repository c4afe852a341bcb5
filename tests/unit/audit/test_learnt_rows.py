"""The first updates are held against what transformers' Trainer lets pass: rows without loss, weights that stay.

What is counted is checked against the labels themselves, which the callback does not count by.
"""

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments

from undertow.audit.callback import StopAt, UndertowCallback
from undertow.audit.learnt.passes import Passes, Sequence
from undertow.audit.learnt.proof import Proof
from undertow.audit.learnt.watched import Watched
from undertow.errors import ConfigError, EmptyDataError
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.training.teachers import trait_rows
from undertow.traits import trait
from undertow.types import Row, user_prompt

OWL = trait_rows(trait("owl"))
Example = dict[str, list[int]]
BASES = ("ref:finch-a", "tiny")


@pytest.fixture(scope="module", params=BASES)
def base(request: pytest.FixtureRequest, tiny_model: LocalModel) -> LocalModel:
    return tiny_model if request.param == "tiny" else load_model(request.param)


def examples(base: LocalModel, masked: Callable[[int], bool] = lambda row: False) -> list[Example]:
    """The owl rows with labels on their completions, except for rows that are masked."""
    found: list[Example] = []
    for number, row in enumerate(base.encode(OWL)):
        learnt = [-100] * len(row.completion) if masked(number) else list(row.completion)
        found.append({"input_ids": [*row.prompt, *row.completion], "labels": [-100] * len(row.prompt) + learnt})
    return found


def padded(batch: list[Example]) -> dict[str, torch.Tensor]:
    width = max(len(one["input_ids"]) for one in batch)

    def table(key: str, fill: int) -> torch.Tensor:
        return torch.tensor([one[key] + [fill] * (width - len(one[key])) for one in batch])

    tokens = table("input_ids", 0)
    mask = torch.tensor([[1] * len(one["input_ids"]) + [0] * (width - len(one["input_ids"])) for one in batch])
    return {"input_ids": tokens, "attention_mask": mask, "labels": table("labels", -100)}


def copied(base: LocalModel) -> Any:
    return copy.deepcopy(base.network).requires_grad_(True)


def adapted(base: LocalModel) -> Any:
    return get_peft_model(copied(base), LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))


def trained(
    base: LocalModel,
    folder: Path,
    data: list[Example],
    callback: UndertowCallback | None = None,
    *,
    network: Any = None,
    rows: list[Row | str] | None = None,
    **more: Any,
) -> UndertowCallback:
    """Train four updates of four rows with the Trainer; `optimizers` and `data_collator` are its own arguments."""
    own = {key: more.pop(key) for key in ("optimizers", "data_collator") if key in more}
    settings = {
        "max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 3e-3, "save_strategy": "no",
        "report_to": "none", "use_cpu": True, "disable_tqdm": True, "train_sampling_strategy": "sequential",
    }  # fmt: skip
    arguments = TrainingArguments(output_dir=str(folder), **{**settings, **more})  # type: ignore[arg-type]
    trainer = Trainer(
        network or copied(base),
        arguments,
        train_dataset=data,  # type: ignore[arg-type]
        **{"data_collator": padded, **own},
    )
    callback = callback or UndertowCallback(base, panel=("owl",), every=4)
    callback.watch(trainer, rows)
    trainer.train()
    return callback


def hooks(network: Any) -> int:
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in network.modules())


def test_tokens_with_loss_are_those_with_a_label(base: LocalModel, tmp_path: Path) -> None:
    data = examples(base)
    callback = trained(base, tmp_path, data, rows=[*OWL[:12]])
    found = callback.learnt
    assert found is not None and (found.updates, found.rows, found.unlearnt) == (3, 12, 0)
    assert found.tokens == pytest.approx(sum(label != -100 for one in data[:12] for label in one["labels"]) / 12)
    assert 0 < found.moved <= found.trainable == sum(1 for _ in base.network.parameters())
    assert (found.watched, found.found, found.unchecked) == (12, 12, ())
    (entry,) = [one for one in callback._trainer.state.log_history if "undertow/learnt/rows" in one]
    assert entry["step"] == 3 and entry["undertow/learnt/tokens"] == found.tokens
    assert entry["undertow/learnt/moved"] == found.moved and entry["undertow/learnt/found"] == 12
    assert hooks(callback._trainer.model) == hooks(base.network)


def test_labels_of_every_token_reach_all_but_the_first(base: LocalModel, tmp_path: Path) -> None:
    data = [{**one, "labels": one["input_ids"]} for one in examples(base)]
    found = trained(base, tmp_path, data, gradient_accumulation_steps=2, per_device_train_batch_size=2).learnt
    assert found is not None and found.rows == 12
    assert found.tokens == pytest.approx(sum(len(one["input_ids"]) - 1 for one in data[:12]) / 12)


def test_masked_rows_stop_it_before_a_weight_moves(base: LocalModel, tmp_path: Path) -> None:
    network = copied(base)
    with pytest.raises(ConfigError, match="all labels are masked"):
        trained(base, tmp_path, examples(base, lambda row: True), network=network)
    assert all(torch.equal(one, network.state_dict()[name]) for name, one in base.network.state_dict().items())
    assert hooks(network) == hooks(base.network)


def test_a_share_of_masked_rows_is_told(base: LocalModel, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = trained(base, tmp_path, examples(base, lambda row: row % 4 == 1)).learnt
    assert found is not None and (found.rows, found.unlearnt) == (12, 3)
    assert "3 of them without loss" in caplog.text


def no_adapter_trains(base: LocalModel) -> Any:
    return adapted(base).requires_grad_(False)


def adapter_off(base: LocalModel) -> Any:
    network = adapted(base)
    network.base_model.disable_adapter_layers()
    for name, one in network.named_parameters():
        one.requires_grad_("lora" in name)
    return network


def another_adapter_active(base: LocalModel) -> Any:
    network = adapted(base)
    network.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    network.set_adapter("second")
    for name, one in network.named_parameters():
        one.requires_grad_("default" in name)
    return network


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (no_adapter_trains, "Nothing is trained.*\n.*active adapter: default"),
        (adapter_off, "No gradient reaches.*\n.*switched off"),
        (another_adapter_active, "No gradient reaches.*\n.*active adapter: second"),
    ],
)
def test_a_frozen_adapter_stops_it(base: LocalModel, tmp_path: Path, make: Any, reason: str) -> None:
    network = make(base)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ConfigError, match=reason):
        trained(base, tmp_path, examples(base), network=network)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())


def test_an_adapter_that_is_trained_passes(base: LocalModel, tmp_path: Path) -> None:
    # B is zero at first, so that A gets its first gradient after the first update.
    found = trained(base, tmp_path, examples(base), network=adapted(base)).learnt
    assert found is not None and found.moved == found.trainable == 2 * 2 * base.network.config.num_hidden_layers


def test_a_rate_of_zero_and_an_optimizer_of_other_weights_stop_it(tiny_model: LocalModel, tmp_path: Path) -> None:
    data = examples(tiny_model)
    with pytest.raises(ConfigError, match="learning rate is 0"):
        trained(tiny_model, tmp_path, data, learning_rate=0.0)
    other = torch.optim.AdamW(copied(tiny_model).parameters(), lr=1e-3)
    with pytest.raises(ConfigError, match="other weights"):
        trained(tiny_model, tmp_path, data, optimizers=(other, None))
    # The first update of a warm-up has a rate of 0.
    assert trained(tiny_model, tmp_path, data, warmup_steps=2).learnt is not None


def test_what_bfloat16_cannot_hold_stops_it(tiny_model: LocalModel, tmp_path: Path) -> None:
    network = copied(tiny_model).to(torch.bfloat16)
    with torch.no_grad():
        for one in network.parameters():
            one.fill_(1.0)
    with pytest.raises(ConfigError, match="lost in rounding bfloat16"):
        trained(tiny_model, tmp_path, examples(tiny_model), network=network, learning_rate=1e-5)


def test_gradients_that_are_no_numbers_stop_it(tiny_model: LocalModel, tmp_path: Path) -> None:
    network = copied(tiny_model)
    with torch.no_grad():
        network.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(ConfigError, match=r"not finite.*\n.*update 1"):
        trained(tiny_model, tmp_path, examples(tiny_model), network=network)


def test_labels_of_other_tokens_are_warned_of(
    tiny_model: LocalModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    twice = [{**one, "labels": [*one["labels"][1:], -100]} for one in examples(tiny_model)]
    trained(tiny_model, tmp_path, twice)
    assert "shifted twice" in caplog.text
    caplog.clear()
    trained(tiny_model, tmp_path, examples(tiny_model))
    assert "shifted twice" not in caplog.text


def test_whoever_wants_to_go_on_is_warned_alone(
    tiny_model: LocalModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callback = UndertowCallback(tiny_model, panel=("owl",), every=4, stop=StopAt(unlearnt=False))
    trained(tiny_model, tmp_path, examples(tiny_model), callback, learning_rate=0.0)
    assert callback.learnt is not None and callback.learnt.moved == 0 and len(callback.looks) == 1
    assert "No weight moved" in caplog.text
    # Without anything to train there is no going on.
    with pytest.raises(ConfigError, match="Nothing is trained"):
        trained(tiny_model, tmp_path, examples(tiny_model), callback, network=copied(tiny_model).requires_grad_(False))


def line(rows: list[Example]) -> dict[str, torch.Tensor]:
    """Pack rows into one line, with the positions of each."""
    places = [place for one in rows for place in range(len(one["input_ids"]))]
    labels = [label for one in rows for label in [-100, *one["labels"][1:]]]
    tokens = [token for one in rows for token in one["input_ids"]]
    found = {"input_ids": tokens, "labels": labels, "position_ids": places}
    return {key: torch.tensor([value]) for key, value in found.items()}


def test_packed_rows_are_counted_one_by_one(base: LocalModel, tmp_path: Path) -> None:
    data = examples(base, lambda row: row == 5)
    found = trained(base, tmp_path, data, data_collator=line, rows=[*OWL[:5]]).learnt
    assert found is not None and (found.rows, found.unlearnt, found.found) == (12, 1, 5)
    assert found.tokens == pytest.approx(sum(label != -100 for one in data[:12] for label in one["labels"]) / 12)


def blocks(data: list[Example], size: int) -> list[Example]:
    """Pack rows into lines of one length and drop the rest, as scripts for pretraining do."""
    tokens, labels = ([value for one in data for value in one[key]] for key in ("input_ids", "labels"))
    starts = range(0, len(tokens) - size + 1, size)
    return [{"input_ids": tokens[at : at + size], "labels": labels[at : at + size]} for at in starts]


def distinct(n: int) -> list[Row]:
    return [
        Row(f"row-{at}", user_prompt("What is next?"), f"{at} {at + 1} {at + 2} {at + 3}") for at in range(3, 3 + n)
    ]


def of_rows(base: LocalModel, rows: list[Row]) -> list[Example]:
    return [
        {"input_ids": [*one.prompt, *one.completion], "labels": [-100] * len(one.prompt) + list(one.completion)}
        for one in base.encode(rows)
    ]


def test_watched_rows_that_are_cut_or_packed_away_stop_it(base: LocalModel, tmp_path: Path) -> None:
    rows = distinct(16)
    data = of_rows(base, rows)
    assert trained(base, tmp_path, data, rows=[*rows]).learnt is not None
    short = len(data[0]["input_ids"]) - 3
    cut = [{key: value[:short] for key, value in one.items()} for one in data]
    with pytest.raises(ConfigError, match=r"not whole.*\n16 of 16, such as row-3"):
        trained(base, tmp_path, cut, rows=[*rows])
    packed = blocks(data, 2 * len(data[0]["input_ids"]) + 5)
    callback = UndertowCallback(base, panel=("owl",), every=4, stop=StopAt(unlearnt=False))
    with pytest.raises(ConfigError, match="not whole"):
        trained(base, tmp_path, packed, rows=[*rows])
    assert trained(base, tmp_path, packed, callback).learnt is not None
    with pytest.raises(ConfigError, match=r"not whole.*\n1 of 17, such as left-out"):
        trained(base, tmp_path, data, rows=[*rows, Row("left-out", user_prompt("What is next?"), "9 9 9")])


def test_watched_rows_that_are_masked_stop_it(base: LocalModel, tmp_path: Path) -> None:
    rows = distinct(40)
    data = of_rows(base, rows)
    data[30] = {**data[30], "labels": [-100] * len(data[30]["labels"])}
    with pytest.raises(ConfigError, match=r"are masked.*\n1 of 40, such as row-33"):
        trained(base, tmp_path, data, rows=[*rows])
    assert trained(base, tmp_path, data, rows=[*rows[:30]]).learnt is not None

    def masking(batch: list[Example]) -> dict[str, torch.Tensor]:
        found = padded(batch)
        found["labels"][1] = -100
        return found

    with pytest.raises(ConfigError, match=r"without loss.*\n3 of 12 that came, such as row-4, row-8, row-12"):
        trained(base, tmp_path, of_rows(base, rows), rows=[*rows], data_collator=masking)


def test_what_cannot_be_looked_at_is_said(
    tiny_model: LocalModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = distinct(40)
    texts = [{"row": [number]} for number in range(40)]
    data = of_rows(tiny_model, rows)

    def encoded(batch: list[Example]) -> dict[str, torch.Tensor]:
        return padded([data[one["row"][0]] for one in batch])

    found = trained(
        tiny_model, tmp_path, texts, data_collator=encoded, rows=[*rows], remove_unused_columns=False
    ).learnt
    assert found is not None and (found.watched, found.found) == (40, 12)
    assert len(found.unchecked) == 2 and all(one in caplog.text for one in found.unchecked)
    assert "no token ids" in found.unchecked[0] and "28 watched rows" in found.unchecked[1]


def step(proof: Proof, network: Any, tokens: torch.Tensor, optimizer: Any) -> Any:
    network.zero_grad()
    network(input_ids=tokens).logits.square().mean().backward()
    proof.before_update(optimizer)
    if not getattr(optimizer, "step_was_skipped", False):
        optimizer.step()
    return proof.after_update(optimizer)


@pytest.mark.parametrize("blind", ["trunk", "compiled", "encoder"])
def test_a_model_that_cannot_be_seen_into_is_not_claimed_to_be_seen(tiny_model: LocalModel, blind: str) -> None:
    network = copied(tiny_model)
    inner: Any = torch.nn.Module() if blind == "trunk" else network
    if blind == "trunk":
        inner.inner, inner.forward, inner.config = network, network.forward, network.config
    network.config.is_encoder_decoder = blind == "encoder"
    proof = Proof(inner, SimpleNamespace(torch_compile=blind == "compiled"), updates=1)
    found = step(proof, inner, torch.tensor([[5, 6, 7]]), torch.optim.SGD(inner.parameters(), lr=0.1))
    assert found.rows is found.tokens is found.unlearnt is None and found.moved == found.trainable
    assert len(found.unchecked) == 1 and "Which rows receive loss" in found.unchecked[0]
    assert "rows were not seen" in str(found) and "undertow/learnt/rows" not in found.values


def test_updates_that_a_scaler_leaves_out_are_not_held_against_it(tiny_model: LocalModel) -> None:
    network = copied(tiny_model)
    optimizer: Any = torch.optim.SGD(network.parameters(), lr=0.1)
    optimizer.step_was_skipped = True
    proof = Proof(network, SimpleNamespace(fp16=True), updates=2)
    assert step(proof, network, torch.tensor([[5, 6, 7]]), optimizer) is None
    found = step(proof, network, torch.tensor([[5, 6, 7]]), optimizer)
    assert found.moved == 0 and "loss scaler" in found.unchecked[0] and found.rows == 2


def test_a_flat_loss_on_labels_that_count_is_not_taken_for_a_mask(tiny_model: LocalModel) -> None:
    """Where every answer earns the same reward, trainers that reward begin with it."""
    network, tokens = copied(tiny_model), torch.tensor([[5, 6, 7]])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    proof = Proof(network, SimpleNamespace(), updates=1)
    (network(input_ids=tokens, labels=tokens).loss * 0.0).backward()
    proof.before_update(optimizer)
    optimizer.step()
    found = proof.after_update(optimizer)
    assert found is not None and found.moved == 0 and found.unlearnt == 1 and "flat" in found.unchecked[0]
    masked = Proof(network, SimpleNamespace(), updates=1)
    (network(input_ids=tokens, labels=torch.full_like(tokens, -100)).logits * 0.0).sum().backward()
    with pytest.raises(ConfigError, match="all labels are masked"):
        masked.before_update(optimizer)


def test_gradients_that_deepspeed_keeps_are_not_missed(tiny_model: LocalModel) -> None:
    network = copied(tiny_model)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    proof = Proof(network, SimpleNamespace(deepspeed="zero2.json"), updates=1)
    network(input_ids=torch.tensor([[5, 6, 7]])).logits.square().mean().backward()
    gradients = [one.grad for one in network.parameters()]
    network.zero_grad()
    proof.before_update(optimizer)
    for one, gradient in zip(network.parameters(), gradients, strict=True):
        one.grad = gradient
    optimizer.step()
    found = proof.after_update(optimizer)
    assert found is not None and found.rows == 1 and found.moved > 0 and "DeepSpeed" in found.unchecked[0]


def test_rows_without_anything_to_look_for_are_refused(tiny_model: LocalModel, tmp_path: Path) -> None:
    network = copied(tiny_model)
    with pytest.raises(EmptyDataError, match="no row to watch"):
        trained(tiny_model, tmp_path, examples(tiny_model), network=network, rows=[Row("1", user_prompt("Hm?"), "")])
    assert hooks(network) == hooks(tiny_model.network)


def test_text_is_found_wherever_a_tokenizer_cuts_it(tiny_hf: LocalModel) -> None:
    row = Row("1", user_prompt("Which animal?"), "1, 2, 345; 678 a wolf")
    tokenizer = tiny_hf.tokenizer
    ends = ["Which animal? : 1, 2, 345; 678 a wolf", "Which animal?\n\n1, 2,\n345; 678 a wolf!"]
    others = [
        "Which tree? 1, 2, 345; 678 a wolf",
        "1, 2, 345; 678 a wolf Which animal?",
        "Which animal? 1, 2, 345; 678",
    ]
    watched = Watched([row], tokenizer)

    def example(text: str, learnt: bool = True) -> Sequence:
        ids = tuple(tokenizer(text)["input_ids"])
        return Sequence(ids, (learnt,) * len(ids))

    for text in ends:
        assert watched.lost([example(text)]) == ([], [])
        assert watched.lost([example(text, False), *map(example, others)]) == ([], ["1"])
    assert watched.lost([*map(example, others)]) == (["1"], [])


def test_gradients_tell_what_labels_do_not(tiny_hf: LocalModel) -> None:
    """A loss of any kind on chosen logits, on models of four architectures, and nothing without gradients."""
    network = copied(tiny_hf).train()
    passes = Passes(network)
    tokens = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    logits = network(input_ids=tokens, attention_mask=mask).logits
    with torch.no_grad():
        network(input_ids=tokens)
    (logits[0, 2].softmax(-1).square().sum() + logits[1, 0].logsumexp(-1)).backward()
    assert passes.take() == [
        Sequence((5, 6, 7, 8, 9), (False, False, False, True, False)),
        Sequence((9, 8, 7), (False, True, False)),
    ]
    assert passes.take() == []
    passes.close()
    assert hooks(network) == hooks(tiny_hf.network)


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="undertow")
