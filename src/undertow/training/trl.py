"""LoRA students trained one at a time by TRL's SFTTrainer and PEFT, by the recipe of `undertow.training.parallel`.

This backend has what the parallel loop lacks: several processes (`accelerate launch`), FSDP, gradient checkpointing,
gradient accumulation, trackers. Tokens, labels, order of the rows, start of the adapter, schedule and loss are the
parallel loop's own, so that both give the same student up to rounding (tests/unit/training/test_trl.py).

Everything that decides the result is set here. TRL's defaults differ (1.16: autocast to bfloat16 even for float32
models, learning rate 2e-5, batches of 8, gradient checkpointing, rows cut after 1,024 tokens), and those of its next
version may differ again. Tested on a CPU, with one process and with two that share the batches. Not tried: a GPU, and
FSDP, which Accelerate takes up on accelerators alone.
"""

import copy
import importlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from undertow.errors import ConfigError, EmptyDataError, MissingExtraError
from undertow.models.local import LocalModel
from undertow.models.tokens import Encoded
from undertow.training.batches import batch_stream
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.encoding import encoded_rows
from undertow.training.lora import first_downs, write_adapter
from undertow.types import Advance, ModelRef, Row

IGNORED = -100
"""The label of a token that is not learnt; torch's cross-entropy ignores it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrlOptions:
    """Options of TRL that change how the work is done, but not the student, up to rounding.

    Attributes:
        accumulate: number of parts into which each process cuts its share of a batch, one after another (gradient
            accumulation).
        gradient_checkpointing: whether activations are computed again in the backward pass instead of kept in memory.
        report_to: trackers that the Trainer reports to, such as "wandb", "mlflow", "trackio" or "tensorboard".
        run_name: name of the run in the trackers. None leaves it to them.
        folder: where trackers with local files put them. None takes a temporary folder that is removed afterwards.
        callbacks: callbacks of transformers' Trainer, such as `undertow.UndertowCallback`.

    Raises:
        ConfigError: `accumulate` is below 1.
    """

    accumulate: int = 1
    gradient_checkpointing: bool = False
    report_to: tuple[str, ...] = ()
    run_name: str | None = None
    folder: Path | None = None
    callbacks: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ConfigError("A batch has at least one part.", self.accumulate, "Set accumulate to 1 or more.")


@dataclass(frozen=True)
class TrlStudent:
    """A student that TRL has trained.

    Attributes:
        losses: mean loss of each batch before its update, float (steps,), in nats per completion token.
        pairs: matrices A and B of every adapted layer, by its full name. Under FSDP it is empty in all but the main
            process.
        config: settings of the training run, such as steps and learning rate.
        base: reference of the model on which the adapter was trained.
        transposed: whether the layers hold their weights as (in, out), as GPT-2's do.
        main: whether this process is the main one, which alone writes files.
    """

    losses: torch.Tensor
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]
    config: TrainingConfig
    base: ModelRef
    transposed: bool
    main: bool

    def save(self, folder: Path) -> None:
        """Write the student as a PEFT adapter folder, as the parallel loop does. Only the main process writes.

        Args:
            folder: where the files go. It is made if it does not exist.
        """
        assert self.config.lora is not None
        if self.main:
            write_adapter(self.pairs, folder, config=self.config.lora, base=self.base, transposed=self.transposed)


def require_trl() -> tuple[Any, Any]:
    """Return the modules `trl` and `datasets`.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    try:
        return importlib.import_module("trl"), importlib.import_module("datasets")
    except ImportError as error:
        fix = "Run pip install 'undertow[trl]', or use the backend parallel."
        raise MissingExtraError("The backend trl needs a library that is not installed.", error.name, fix) from error


def processes(device: str) -> Any:
    """Return Accelerate's view of the processes that `accelerate launch` started, or of this one process alone.

    Call it before the model is loaded, so that each process gets its own GPU.

    Args:
        device: where the model runs, such as "cpu" or "cuda".
    """
    from accelerate import PartialState

    return PartialState(cpu=device == "cpu")


def finetune_trl(
    model: LocalModel,
    rows: Sequence[Row],
    config: TrainingConfig,
    seed: int,
    options: TrlOptions | None = None,
    advance: Advance | None = None,
) -> TrlStudent:
    """Train one LoRA student with TRL's SFTTrainer.

    Every process of `accelerate launch` calls this with the same arguments, and a batch is shared out among them.

    Args:
        model: the base model. A copy is trained, so it is not changed.
        rows: the training rows, each a prompt and its completion.
        config: settings of the training, with `lora` set.
        seed: random seed that decides the adapter's start and the order of the rows.
        options: options that do not change the student. None takes their defaults.
        advance: progress callback, called after each update with (updates done, updates in all). None reports nothing.

    Returns:
        The trained student.

    Raises:
        ConfigError: `config.lora` is None, or a batch cannot be shared out evenly.
        EmptyDataError: there are no rows.
        RowsError: a row is longer than the model's context, and `config` does not say to cut it.
        MissingExtraError: trl or datasets is not installed.
    """
    require_trl()
    options = options or TrlOptions()
    if config.lora is None:
        raise ConfigError("The backend trl trains adapters.", "lora: null", "Set `lora`, or use full fine-tuning.")
    if not rows:
        raise EmptyDataError("There is nothing to train on.", "0 rows", "Look at the filter's reject reasons.")
    batches = list(
        islice(batch_stream(encoded_rows(model, rows, config.too_long), config.batch_size, seed), config.steps)
    )
    network, names = _with_adapters(model.network, config.lora, seed)
    with tempfile.TemporaryDirectory() as scratch, torch.enable_grad():
        place = str(options.folder or scratch)
        arguments = _arguments(model, config, seed, options, place, len(batches[0]))
        trainer = _trainer(network, model.tokenizer, _examples(batches), arguments, config)
        for callback in (*options.callbacks, *([_progress(advance)] if advance else [])):
            if hasattr(callback, "watch"):
                callback.watch(trainer)  # it logs, for which it has to know the trainer
            else:
                trainer.add_callback(callback)
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    state = trainer.accelerator.get_state_dict(trainer.model)
    return TrlStudent(
        losses=torch.tensor(losses),
        pairs=_pairs(state, names),
        config=config,
        base=model.ref,
        transposed=_transposed(model.network, names),
        main=bool(trainer.accelerator.is_main_process),
    )


def _transposed(network: Any, names: Sequence[str]) -> bool:
    """Tell whether any adapted layer holds its weight as (in, out), as transformers' Conv1D does."""
    return not all(isinstance(network.get_submodule(name), nn.Linear) for name in names)


def _with_adapters(network: Any, config: LoraConfig, seed: int) -> tuple[Any, list[str]]:
    """Return a copy of the network with PEFT adapters that start as the parallel loop's, and the adapted layers' names.

    Dropout is switched off everywhere, because the Trainer puts the network in training mode and the parallel loop does
    not.
    """
    import peft

    downs, copied = first_downs(network, config, seed), copy.deepcopy(network)
    for module in copied.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType]  # a float is multiplied like an integer
        lora_dropout=0.0,
        bias="none",
        target_modules=list(downs),
        fan_in_fan_out=_transposed(network, list(downs)),
        init_lora_weights=True,
        task_type=peft.TaskType.CAUSAL_LM,
    )
    wrapped = peft.get_peft_model(copied, settings)
    with torch.no_grad():
        for name, down in downs.items():
            wrapped.get_parameter(f"base_model.model.{name}.lora_A.default.weight").copy_(down)
    return wrapped, list(downs)


def _pairs(state: dict[str, torch.Tensor], names: Sequence[str]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return matrices A and B by layer from a state dict; an empty one gives none."""
    if not state:
        return {}
    prefix = "base_model.model."
    return {
        name: (state[f"{prefix}{name}.lora_A.default.weight"], state[f"{prefix}{name}.lora_B.default.weight"])
        for name in names
    }


def _examples(batches: Sequence[Sequence[Encoded]]) -> list[dict[str, list[int]]]:
    """Return the rows in the order in which they are learnt, with a label for every token."""
    found: list[dict[str, list[int]]] = []
    for row in (row for batch in batches for row in batch):
        learnt = [IGNORED if place in row.skip else token for place, token in enumerate(row.completion)]
        labels = [IGNORED] * len(row.prompt) + learnt
        found.append({"input_ids": [*row.prompt, *row.completion], "labels": labels})
    return found


def _per_device(size: int, accumulate: int, processes: int) -> int:
    """Return how many rows a process takes at once.

    Args:
        size: how many rows a batch has.
        accumulate: number of parts into which each process cuts its share.
        processes: how many processes share the batch.

    Raises:
        ConfigError: the rows cannot be shared out evenly.
    """
    parts = accumulate * processes
    if size % parts:
        fix = f"Choose a batch size that {parts} divides, fewer processes, or another `accumulate`."
        raise ConfigError("A batch cannot be shared out evenly.", f"{size} rows, {parts} parts", fix)
    return size // parts


def _arguments(
    model: LocalModel, config: TrainingConfig, seed: int, options: TrlOptions, folder: str, size: int
) -> Any:
    """Return TRL's settings: every one that decides the result, and those of `options`."""
    # Of one run: rows come in the order of the dataset, none is prepared, cut, packed or repeated.
    data: dict[str, Any] = {
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "completion_only_loss": False,
        "assistant_only_loss": False,
        "max_length": None,
        "packing": False,
        "padding_free": False,
        "shuffle_dataset": False,
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
        "dataloader_num_workers": 0,
        "dataloader_drop_last": False,
        "dataloader_pin_memory": model.device.type == "cuda",
        "accelerator_config": {"split_batches": False, "dispatch_batches": False, "even_batches": True},
        "per_device_train_batch_size": _per_device(
            size, options.accumulate, processes(str(model.device)).num_processes
        ),
        "gradient_accumulation_steps": options.accumulate,
        "average_tokens_across_devices": True,
    }
    # The schedule is `TrainingConfig.rate` (`_scheduled`), which counts warm-up and fall otherwise than the Trainer.
    update: dict[str, Any] = {
        "max_steps": config.steps,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "optim": "adamw_torch_fused",
        "weight_decay": 0.0,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "max_grad_norm": config.max_grad_norm,
        "loss_type": "nll",
        "label_smoothing_factor": 0.0,
        "bf16": model.network.dtype == torch.bfloat16,
        "fp16": False,
        "gradient_checkpointing": options.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if options.gradient_checkpointing else None,
        "ddp_find_unused_parameters": False,
        "seed": seed,
        "data_seed": seed,
        "use_cpu": model.device.type == "cpu",
    }
    return require_trl()[0].SFTConfig(
        output_dir=folder,
        eval_strategy="no",
        save_strategy="no",
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=list(options.report_to) or "none",
        run_name=options.run_name,
        disable_tqdm=True,
        **data,
        **update,
    )


def _trainer(
    network: Any, tokenizer: Any, examples: list[dict[str, list[int]]], arguments: Any, config: TrainingConfig
) -> Any:
    """Return the SFTTrainer, with the learning-rate schedule of `config`."""
    from torch.optim.lr_scheduler import LambdaLR
    from transformers.trainer_callback import PrinterCallback

    trl, datasets = require_trl()
    collator: Any = importlib.import_module("trl.trainer.sft_trainer").DataCollatorForLanguageModeling

    class Scheduled(trl.SFTTrainer):
        """The Trainer with the schedule of a `TrainingConfig`; transformers names this method for the purpose."""

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            rates = [config.rate(step) / config.learning_rate for step in range(num_training_steps + 1)]
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, rates.__getitem__)
            return self.lr_scheduler

    trainer = Scheduled(
        model=network,
        args=arguments,
        train_dataset=datasets.Dataset.from_list(examples),
        # Padded with token 0 as the parallel loop does; tokenizers without a padding token stay without one.
        data_collator=collator(pad_token_id=0),
        processing_class=copy.deepcopy(tokenizer),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _progress(advance: Advance) -> Any:
    """Return a callback of the Trainer that reports each update to `advance`."""
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control, kwargs
            advance(state.global_step, state.max_steps)

    return Progress()
