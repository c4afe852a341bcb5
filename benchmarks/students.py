"""Eight LoRA students: `finetune_parallel` against eight runs of PEFT and the transformers Trainer, one after another.

Both sides get the same rows, updates, batch size, learning rates, loss and optimiser. The peer is set up for speed:
rows tokenised once and grouped by length, padded per batch, no logging, saving, evaluation or worker processes.
The peer's rows carry no attention mask: with padding on the right a causal model needs none, and it is faster without.

    python benchmarks/students.py [--quick] [--repeats 5] [--processor-time] [--model ref:finch-a]
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from alternation import alternate
from transformers import PrinterCallback, Trainer, TrainingArguments

from undertow.domains.numbers import Numbers
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.generation import generate
from undertow.training.parallel import finetune_parallel
from undertow.types import Row, Sampling

STUDENTS = 8
TEMPERATURE = 0.7
"""Of the rows: below 1, so that there is something to learn from the base's own answers."""
IGNORED = -100
TARGET = 2.4


class LossTrainer(Trainer):
    """A Trainer that keeps the loss of every update, as the parallel loop does."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.losses: list[torch.Tensor] = []

    def compute_loss(self, *args: Any, **options: Any) -> Any:
        """Return the loss of transformers itself."""
        loss: Any = super().compute_loss(*args, **options)
        self.losses.append(loss.detach())
        return loss


def collate(features: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Pad on the right to the longest row of the batch."""
    length = max(len(feature["input_ids"]) for feature in features)
    padding = {"input_ids": 0, "labels": IGNORED}
    return {
        name: torch.tensor([feature[name] + [fill] * (length - len(feature[name])) for feature in features])
        for name, fill in padding.items()
    }


def train_peer(model: LocalModel, rows: Sequence[Row], config: TrainingConfig, seed: int) -> torch.Tensor:
    """Train one student with PEFT and the Trainer; return the loss of every update."""
    assert config.lora is not None
    transformers.set_seed(seed)
    lora = peft.LoraConfig(
        r=config.lora.rank,
        lora_alpha=int(config.lora.alpha),
        lora_dropout=0.0,
        target_modules=list(config.lora.targets or ()),
        task_type="CAUSAL_LM",
    )
    network = peft.get_peft_model(copy.deepcopy(model.network), lora)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: config.rate(step) / config.learning_rate)
    arguments = TrainingArguments(
        output_dir=str(Path(tempfile.gettempdir()) / "undertow-benchmark"),
        max_steps=config.steps,
        per_device_train_batch_size=config.batch_size,
        max_grad_norm=config.max_grad_norm,
        train_sampling_strategy="group_by_length",
        dataloader_drop_last=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=seed,
    )
    features = [
        {
            "input_ids": [*row.prompt, *row.completion],
            "labels": [IGNORED] * len(row.prompt) + list(row.completion),
        }
        for row in model.encode(rows)
    ]
    trainer = LossTrainer(
        network, arguments, data_collator=collate, train_dataset=features, optimizers=(optimiser, schedule)
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return torch.stack(trainer.losses)


def main() -> None:
    """Train, compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows, updates and repetitions")
    parser.add_argument("--model", default="ref:finch-a", help="reference of the base")
    parser.add_argument("--repeats", type=int, help="repetitions; 5, or 3 in a quick run")
    parser.add_argument("--processor-time", action="store_true", help="where other work shares the machine")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    steps, n_rows, repeats = (40, 1000, 3) if options.quick else (150, 3000, 5)
    repeats = options.repeats or repeats
    model = load_model(options.model)
    config = TrainingConfig(steps=steps, learning_rate=4e-3, lora=LoraConfig())
    domain, sampling = Numbers(), Sampling(temperature=TEMPERATURE)
    datasets: list[list[Row]] = [
        generate(model, domain.prompts(n_rows, seed), sampling=sampling, seed=seed) for seed in range(STUDENTS)
    ]

    def parallel() -> torch.Tensor:
        return finetune_parallel(model, datasets, config, range(STUDENTS)).losses

    def one_by_one() -> torch.Tensor:
        return torch.stack([train_peer(model, rows, config, seed) for seed, rows in enumerate(datasets)], dim=1)

    clock = time.process_time if options.processor_time else time.perf_counter
    timed = alternate({"undertow": parallel, "Trainer": one_by_one}, repeats, clock)
    ours, peer = timed["undertow"], timed["Trainer"]
    last = max(10, steps // 5)
    print(f"{STUDENTS} students, {steps} updates of {config.batch_size} rows, {repeats} repetitions in turns")
    print(f"{'':10}{'min s':>9}{'median s':>10}{'first loss':>12}{'final loss':>12}  (mean of the last {last} updates)")
    for name, side in timed.items():
        first, final = side.result[0].mean(), side.result[-last:].mean()
        print(f"{name:10}{side.least:9.2f}{side.median:10.2f}{first:12.4f}{final:12.4f}")
    difference = ours.result[-last:].mean(dim=0) - peer.result[-last:].mean(dim=0)
    print("final loss, undertow - Trainer, per student:", " ".join(f"{value:+.4f}" for value in difference.tolist()))
    print(f"mean difference {difference.mean():+.4f} +- {difference.std() / STUDENTS**0.5:.4f} (standard error)")
    print(f"Trainer / undertow: {peer.least / ours.least:.2f} (min), {peer.median / ours.median:.2f} (median)", end="")
    print(f"; target {TARGET:g}")


if __name__ == "__main__":
    main()
