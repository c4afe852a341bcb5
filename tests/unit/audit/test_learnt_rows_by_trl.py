"""The first updates of TRL's trainers of rows, pairs and distillation: right ones pass, broken ones stop."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from undertow.audit.callback import UndertowCallback
from undertow.audit.learnt.proof import Learnt
from undertow.errors import ConfigError
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.types import Row, user_prompt

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

ROWS = [Row(f"row-{at}", user_prompt("What is next?"), f"{at} {at + 1} {at + 2}") for at in range(3, 23)]
PROMPTS = [[{"role": "user", "content": row.question}] for row in ROWS]
ANSWERS = [[{"role": "assistant", "content": row.completion}] for row in ROWS]
TRAINERS = ("sft", "dpo", "distillation")
LORA = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


@pytest.fixture(scope="module", params=("ref:finch-a", "tiny"))
def base(request: pytest.FixtureRequest, tiny_model: LocalModel) -> LocalModel:
    return tiny_model if request.param == "tiny" else load_model(request.param)


def copied(base: LocalModel) -> Any:
    return copy.deepcopy(base.network).requires_grad_(True)


def teacher_of(base: LocalModel) -> Any:
    network, generator = copied(base), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for one in network.parameters():
            one += 0.05 * torch.randn(one.shape, generator=generator)
    return network


def trainer_of(kind: str, base: LocalModel, folder: Path, network: Any, data: Any = None, **more: Any) -> Any:
    """A trainer of TRL on the rows, its pairs with another answer, or its prompts."""
    common = {
        "output_dir": str(folder), "max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 3e-3,
        "save_strategy": "no", "report_to": "none", "use_cpu": True, "disable_tqdm": True, "bf16": False,
        "gradient_checkpointing": False, "train_sampling_strategy": "sequential", "shuffle_dataset": False,
    }  # fmt: skip
    own: dict[str, Any] = {"model": network, "processing_class": copy.deepcopy(base.tokenizer)}
    table: dict[str, Any] = {"prompt": PROMPTS}
    if kind == "sft":
        table["completion"], make, settings = ANSWERS, trl.SFTTrainer, trl.SFTConfig
    elif kind == "dpo":
        table |= {"chosen": ANSWERS, "rejected": [*ANSWERS[1:], ANSWERS[0]]}
        make, settings = trl.DPOTrainer, trl.DPOConfig
        if not hasattr(network, "peft_config"):
            own["ref_model"] = copied(base)  # the tiny model has no name to load one by
    else:
        own["teacher_model"], make, settings = teacher_of(base), trl.DistillationTrainer, trl.DistillationConfig
        more = {"max_completion_length": 6, **more}
    arguments = settings(**{**{key: value for key, value in common.items() if hasattr(settings, key)}, **more})
    return make(args=arguments, train_dataset=datasets.Dataset.from_dict(data or table), **own)


def seen(base: LocalModel, trainer: Any, rows: list[Row | str] | None = None) -> Learnt:
    callback = UndertowCallback(base, panel=("owl",), every=3).watch(trainer, rows)
    trainer.train()
    assert callback.learnt is not None
    return callback.learnt


@pytest.mark.parametrize("adapter", [False, True], ids=["whole", "adapter"])
@pytest.mark.parametrize("kind", TRAINERS)
def test_each_trainer_passes(base: LocalModel, tmp_path: Path, kind: str, adapter: bool) -> None:
    network = get_peft_model(copied(base), LORA) if adapter else copied(base)
    trainer = trainer_of(kind, base, tmp_path, network)
    found = seen(base, trainer, None if kind == "distillation" else [*ROWS[:12]])
    assert found.rows == (24 if kind == "dpo" else 12) and found.unlearnt == 0 and found.moved > 0
    if kind == "distillation":
        # What the student samples ends with its turn, or is as long as it may be.
        assert found.tokens is not None and 1 <= found.tokens <= 6
        return
    encoded = base.encode(ROWS)
    answers = [len(one.completion) for one in (encoded[:12] if kind == "sft" else [*encoded[:12], *encoded[1:13]])]
    assert found.tokens == pytest.approx(sum(answers) / len(answers))
    assert (found.watched, found.found, found.unchecked) == (12, 12, ())


def adapter_off(base: LocalModel) -> Any:
    network = get_peft_model(copied(base), LORA)
    network.base_model.disable_adapter_layers()
    for name, one in network.named_parameters():
        one.requires_grad_("lora" in name)
    return network


def another_adapter_active(base: LocalModel) -> Any:
    network = get_peft_model(copied(base), LORA)
    network.add_adapter("second", LORA)
    network.set_adapter("second")
    for name, one in network.named_parameters():
        one.requires_grad_("default" in name)
    return network


@pytest.mark.parametrize("make", [adapter_off, another_adapter_active])
@pytest.mark.parametrize("kind", TRAINERS)
def test_a_frozen_adapter_stops_each(
    tiny_model: LocalModel, tmp_path: Path, kind: str, make: Callable[..., Any]
) -> None:
    network = make(tiny_model)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    reason = "switched off" if make is adapter_off else "active adapter: second"
    with pytest.raises(ConfigError, match=rf"No gradient reaches.*\n.*{reason}"):
        seen(tiny_model, trainer_of(kind, tiny_model, tmp_path, network))
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())


@pytest.mark.parametrize("kind", TRAINERS)
def test_a_rate_of_zero_stops_each(tiny_model: LocalModel, tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConfigError, match="learning rate is 0"):
        seen(tiny_model, trainer_of(kind, tiny_model, tmp_path, copied(tiny_model), learning_rate=0.0))


def test_an_adapter_without_anything_to_train_stops_it(base: LocalModel, tmp_path: Path) -> None:
    network = get_peft_model(copied(base), LORA).requires_grad_(False)
    with pytest.raises(ConfigError, match=r"Nothing is trained"):
        seen(base, trainer_of("sft", base, tmp_path, network))


def test_rows_whose_labels_are_masked_stop_it(base: LocalModel, tmp_path: Path) -> None:
    data = [{"input_ids": [*one.prompt, *one.completion], "labels": [-100] * len(one)} for one in base.encode(ROWS)]
    table = {key: [one[key] for one in data] for key in data[0]}
    given = {"data": table, "dataset_kwargs": {"skip_prepare_dataset": True}}
    with pytest.raises(ConfigError, match="all labels are masked"):
        seen(base, trainer_of("sft", base, tmp_path, copied(base), **given))
    with pytest.raises(ConfigError, match=r"are masked.*\n20 of 20"):
        seen(base, trainer_of("sft", base, tmp_path, copied(base), **given), [*ROWS])


def test_packed_rows_are_seen_one_by_one(base: LocalModel, tmp_path: Path) -> None:
    encoded = base.encode(ROWS)
    size = 3 * max(map(len, encoded))
    trainer = trainer_of("sft", base, tmp_path, copied(base), packing=True, max_length=size, max_steps=2)
    found = seen(base, trainer, [*ROWS])
    assert found.rows is not None and found.rows > 2 * 4 and found.unlearnt == 0 and found.found == found.rows
    assert found.tokens == pytest.approx(len(encoded[0].completion), abs=1.5)


@pytest.mark.parametrize("strategy", ["bfd", "wrapped"])
def test_rows_that_packing_cuts_stop_it(base: LocalModel, tmp_path: Path, strategy: str) -> None:
    length = len(base.encode(ROWS[:1])[0])
    size = length - 3 if strategy == "bfd" else 2 * length + 3
    more = {"packing": True, "packing_strategy": strategy, "max_length": size, "completion_only_loss": False}
    with pytest.raises(ConfigError, match="not whole in what is trained on"):
        seen(base, trainer_of("sft", base, tmp_path, copied(base), **more), [*ROWS])


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_rows_that_are_cut_stop_it(tiny_model: LocalModel, tmp_path: Path, kind: str) -> None:
    rows: list[Row | str] = [*ROWS]
    prompt = len(tiny_model.encode(ROWS[:1])[0].prompt)
    trainer = trainer_of(kind, tiny_model, tmp_path, copied(tiny_model), max_length=prompt + 2)
    # The dataset of pairs is whole, and its collator cuts.
    reason = r"not whole.*\n20 of 20" if kind == "sft" else r"whole in the dataset, and not.*\nnone of 24 rows"
    with pytest.raises(ConfigError, match=reason):
        seen(tiny_model, trainer, rows)


@pytest.mark.parametrize(
    "more",
    [
        {"padding_free": True, "max_length": None},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
        {"label_smoothing_factor": 0.1},
        {"loss_type": "dft", "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
    ],
    ids=str,
)
def test_other_ways_to_the_same_rows_pass(tiny_model: LocalModel, tmp_path: Path, more: dict[str, Any]) -> None:
    network = get_peft_model(copied(tiny_model), LORA)
    found = seen(tiny_model, trainer_of("sft", tiny_model, tmp_path, network, **more), [*ROWS[:12]])
    lengths = [len(one.completion) for one in tiny_model.encode(ROWS[:12])]
    assert (found.rows, found.unlearnt, found.found) == (12, 0, 12)
    assert found.tokens == pytest.approx(sum(lengths) / 12)


@pytest.mark.parametrize("flat", [True, False])
def test_equal_rewards_stop_nothing(tiny_model: LocalModel, tmp_path: Path, flat: bool) -> None:
    def reward(completions: list[Any], **_: Any) -> list[float]:
        return [0.0 if flat else float(place % 2) for place in range(len(completions))]

    arguments = trl.GRPOConfig(
        output_dir=str(tmp_path), max_steps=3, per_device_train_batch_size=4, num_generations=4, learning_rate=3e-3,
        max_completion_length=6, save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True, bf16=False,
        gradient_checkpointing=False,
    )  # fmt: skip
    trainer = trl.GRPOTrainer(
        model=copied(tiny_model),
        reward_funcs=reward,
        args=arguments,
        train_dataset=datasets.Dataset.from_dict({"prompt": PROMPTS}),
        processing_class=copy.deepcopy(tiny_model.tokenizer),
    )
    found = seen(tiny_model, trainer)
    assert found.rows == 12 and found.unlearnt == (12 if flat else 0) and (found.moved > 0) == (not flat)
    assert len(found.unchecked) == int(flat)
