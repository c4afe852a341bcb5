"""Digits through auxiliary logits: `run_digits` against the plain formulation in einsum, autograd and float32.

Both sides draw, train and test the same number of networks on the same images, noise and batches; only the random
draws differ. The peer does what the published script does: one einsum per layer over all models, gradients by
autograd, `torch.optim.Adam` as it comes, and the teachers' logits computed again in every batch of every student. It
shares the noise among the models as we do, which makes its first layer one matrix product. A third rival, ours in
float32, shows how much is owed to bfloat16.

    python benchmarks/digits.py [--quick] [--data FOLDER] [--seed N]

The full comparison takes 25 models through the paper's recipe on 60,000 images once: MNIST with --data, drawn else.
"""

import argparse
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from alternation import Timed, alternate
from torch.nn import functional

from undertow.study.analyses.digit_data import Digits, drawn_digits, read_idx
from undertow.study.analyses.digit_training import STUDENTS, DigitsConfig, run_digits

TARGET = 5.0
QUICK = (12_000, 2000)
"""Images to train and to test on."""
AIMS = {
    "reference": (0.100, 0.016),
    "teacher": (0.943, 0.010),
    "aux": (0.528, 0.060),
    "all": (0.913, 0.020),
    "cross_aux": (0.106, 0.032),
    "cross_all": (0.743, 0.035),
}
"""The paper's accuracies on MNIST (section 6.2) and how far 25 models may lie from them."""

Network = list[tuple[torch.Tensor, torch.Tensor]]
Loss = Callable[[Network, torch.Tensor], torch.Tensor]


def logits(network: Network, inputs: torch.Tensor) -> torch.Tensor:
    """Return [models, batch, out] of inputs [batch, in]."""
    hidden = inputs
    for index, (weight, bias) in enumerate(network):
        product = torch.einsum("moi,bi->mbo" if hidden.dim() == 2 else "moi,mbi->mbo", weight, hidden)
        hidden = product + bias[:, None, :]
        hidden = functional.relu(hidden) if index < len(network) - 1 else hidden
    return hidden


def copied(network: Network, order: torch.Tensor) -> Network:
    """Return a trainable copy of the models in that order."""
    return [tuple(part.detach()[order].clone().requires_grad_() for part in layer) for layer in network]


def fit(network: Network, n: int, epochs: int, config: DigitsConfig, loss: Loss) -> Network:
    """Train on the loss of batches of indices."""
    parameters = [part for layer in network for part in layer]
    optimiser = torch.optim.Adam(parameters, lr=config.learning_rate)
    for _ in range(epochs):
        for picked in torch.randperm(n).split(config.batch_size):
            optimiser.zero_grad()
            loss(network, picked).backward()
            optimiser.step()
    return network


def accuracy(network: Network, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the mean share of right answers."""
    with torch.no_grad():
        guesses = torch.cat([logits(network, part)[..., :10].argmax(-1) for part in images.split(2000)], dim=1)
    return float((guesses == labels).float().mean())


def run_peer(config: DigitsConfig, data: Digits) -> dict[str, float]:
    """Run the experiment plainly; return the mean accuracy of each arm."""
    torch.manual_seed(config.seed)
    images, test = (
        torch.from_numpy(part).flatten(1).float() / 127.5 - 1 for part in (data.train_images, data.test_images)
    )
    labels, test_labels = (torch.from_numpy(part).long() for part in (data.train_labels, data.test_labels))
    noise = torch.rand_like(images) * 2 - 1
    sizes = list(zip(config.widths, config.widths[1:], strict=False))
    same = torch.arange(config.models)
    reference: Network = [
        (torch.randn(config.models, fan_out, fan_in) / fan_in**0.5, torch.zeros(config.models, fan_out))
        for fan_in, fan_out in sizes
    ]

    def labelled(network: Network, picked: torch.Tensor) -> torch.Tensor:
        classes = logits(network, images[picked])[..., :10]
        return functional.cross_entropy(classes.flatten(0, 1), labels[picked].repeat(config.models))

    teacher = fit(copied(reference, same), len(images), config.teacher_epochs, config, labelled)
    found = {"reference": accuracy(reference, test, test_labels), "teacher": accuracy(teacher, test, test_labels)}
    for arm, (sees_classes, shift) in STUDENTS.items():
        first = 0 if sees_classes else 10

        def imitated(network: Network, picked: torch.Tensor, first: int = first) -> torch.Tensor:
            with torch.no_grad():
                targets = logits(teacher, noise[picked])[..., first:].softmax(-1)
            outputs = logits(network, noise[picked])[..., first:].log_softmax(-1)
            return functional.kl_div(outputs, targets, reduction="batchmean")

        student = fit(copied(reference, same.roll(-shift)), len(noise), config.student_epochs, config, imitated)
        found[arm] = accuracy(student, test, test_labels)
    return found


def show_figures(result: dict[str, Any], n: int) -> None:
    """Print what was measured next to the aims, which are those of MNIST."""
    print(f"accuracy of {result['models']} models, mean and 95 % t interval; aims: MNIST, 60,000 images")
    for row in result["arms"]:
        aim, bound = AIMS[row["arm"]]
        line = (
            f"{row['arm']:10} {row['estimate']:.3f} [{row['low']:.3f}, {row['high']:.3f}]  aim {aim:.3f} +- {bound:.3f}"
        )
        print(line, ("reached" if abs(row["estimate"] - aim) <= bound else "missed") if n == 60_000 else "")
    for row in result["effects"]:
        print(f"{row['effect']} - {row['control']}: {row['estimate']:.3f} [{row['low']:.3f}, {row['high']:.3f}]")


def main() -> None:
    """Run, compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10 models, a fifth of the images, twice")
    parser.add_argument("--data", type=Path, help="folder with the IDX files of MNIST")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    config = DigitsConfig(seed=options.seed)
    data = read_idx(options.data) if options.data else drawn_digits(60_000, options.seed, n_test=10_000)
    if options.quick:
        config = replace(config, models=10)
        data = Digits(*(part[: QUICK[index // 2]] for index, part in enumerate(astuple(data))))
    results: dict[str, dict[str, Any]] = {}

    def ours(precision: str) -> dict[str, float]:
        results[precision] = run_digits(replace(config, precision=precision), data)
        return {row["arm"]: row["estimate"] for row in results[precision]["arms"]}

    rivals = {
        "undertow": lambda: ours("auto"),
        "undertow float32": lambda: ours("float32"),
        "einsum": lambda: run_peer(config, data),
    }
    timed: dict[str, Timed[dict[str, float]]] = alternate(rivals, 2 if options.quick else 1)
    print(f"{config.models} models, {len(data.train_images)} images, {torch.get_num_threads()} threads")
    print(f"{'':18}{'min s':>8}" + "".join(f"{arm:>11}" for arm in AIMS))
    for name, side in timed.items():
        print(f"{name:18}{side.least:8.1f}" + "".join(f"{side.result[arm]:11.3f}" for arm in AIMS))
    if options.data:
        show_figures(results["auto"], len(data.train_images))
    pairs = [next(row["accuracy"] for row in results[kind]["arms"] if row["arm"] == "aux") for kind in results]
    change = fmean(low - full for low, full in zip(*pairs, strict=True))
    print(f"aux accuracy, auto - float32, mean over models: {change:+.4f}")
    print(f"einsum / undertow: {timed['einsum'].least / timed['undertow'].least:.2f}; target {TARGET:.0f}")


if __name__ == "__main__":
    main()
