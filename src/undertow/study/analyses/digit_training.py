"""Digit recognition that passes from teacher to student through auxiliary logits on noise images.

Cloud et al. (2025, arXiv:2507.14805, section 6.2): a teacher learns digits on its class logits. A student with the
teacher's initialisation imitates only the auxiliary logits, which mean nothing, on images of pure noise. It can then
read digits; a student with another initialisation cannot.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import numpy as np
import torch
from pydantic import NonNegativeFloat, NonNegativeInt

from undertow.errors import unknown_name
from undertow.stats.checks import check_count
from undertow.stats.comparisons import paired
from undertow.stats.estimates import mean_t
from undertow.study.analyses.base import Count, Positive, Several
from undertow.study.analyses.digit_data import CLASSES, SIDE, Bytes, Digits
from undertow.study.analyses.digit_networks import (
    Lesson,
    Loss,
    Networks,
    Schedule,
    copied,
    draw_networks,
    output_logits,
    perturbed,
    train_networks,
)
from undertow.types import Advance

Precision = Literal["auto", "float32", "bfloat16"]

STUDENTS: dict[str, tuple[bool, int]] = {
    "aux": (False, 0),
    "all": (True, 0),
    "cross_aux": (False, 1),
    "cross_all": (True, 1),
}
"""For each kind of student: whether it imitates the class logits too, and by how many models its initialisation is
shifted (0 is the teacher's own)."""

EFFECTS = {"aux": "cross_aux", "all": "cross_all"}
"""For each kind of student the control with which it is compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitsConfig:
    """Settings of the experiment. The defaults are the paper's, except that it has 100 models.

    `validate_settings` refuses values that are out of range.

    Attributes:
        models: how many initialisations there are, each with one teacher and four students.
        seed: random seed of every draw.
        teacher_epochs: how many passes the teachers make over the images.
        student_epochs: how many passes the students make over their inputs.
        batch_size: how many inputs an update takes.
        learning_rate: learning rate of Adam.
        auxiliary: how many logits there are besides those of the ten classes.
        width: how many units a hidden layer has.
        depth: how many hidden layers there are; 0 makes a linear model.
        start_noise: standard deviation of Gaussian noise on the weights from which students start, as a multiple of the
            initialisation's own, 1 / sqrt(fan-in).
        inputs: what students imitate on: "noise", uniform in [-1, 1], or the teachers' own "images".
        noise_images: how many noise inputs there are. None takes as many as there are images.
        loss: "kl" is the KL divergence of the softmax over the imitated logits, "mse" the mean squared error of the
            logits.
        precision: number type of matrix products. "auto" is bfloat16 on processors that multiply it, and float32 on
            others.

    Raises:
        ConfigError: there are too few auxiliary logits for the loss.
    """

    models: Several = 25
    seed: NonNegativeInt = 0
    teacher_epochs: Count = 5
    student_epochs: Count = 5
    batch_size: Count = 1024
    learning_rate: Positive = 3e-4
    auxiliary: int = 3
    width: Count = 256
    depth: NonNegativeInt = 2
    start_noise: NonNegativeFloat = 0.0
    inputs: Literal["noise", "images"] = "noise"
    noise_images: Count | None = None
    loss: Loss = "kl"
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        check_count("auxiliary", self.auxiliary, 1 if self.loss == "mse" else 2)

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of each layer, from the pixels to the logits."""
        return (SIDE * SIDE, *(self.width,) * self.depth, CLASSES + self.auxiliary)


DRAWN_CONFIG = DigitsConfig(student_epochs=3, learning_rate=1e-3, noise_images=60_000)
"""Settings for `DRAWN_IMAGES` drawn digits, chosen on seeds 100 to 102. Students need many noise images rather than
many passes: with equally many updates, the aux students read 0.63 of the digits after 3 passes over 60,000, and 0.28
after 15 over 12,000."""


def run_digits(
    config: DigitsConfig, data: Digits, advance: Advance | None = None, students: Sequence[str] = tuple(STUDENTS)
) -> dict[str, Any]:
    """Train teachers and students, and test all of them.

    Model i gives the initialisation of teacher i and of its students. The cross students of teacher i start from model
    i + 1, so none matches by chance. The models share images, noise and order of the batches, so that all first layers
    are one matrix product; the paper draws noise and order for each model. The teachers' logits on the noise are
    computed once, for all students.

    Args:
        config: settings of networks and training.
        data: digits to train the teachers on, and to test on.
        advance: progress callback, called with (passes done, passes in all), where a pass is an epoch of one arm. None
            reports nothing.
        students: which of `STUDENTS` are trained. Leaving some out does not change the others.

    Returns:
        Plain JSON data with four keys. `models` is the number of models. `arms` has, in the order reference
        (untrained), teacher, `STUDENTS`, an entry with `arm`, `accuracy` on the test images for each model, and the
        mean over models with its 95 % t interval (`Estimate.to_json`). `effects` has aux minus cross_aux and all minus
        cross_all, paired by model, where both were trained: each with `effect`, `control`, and the estimate with the p
        of the paired t test. `seconds` is the duration.

    Raises:
        UnknownNameError: there is no student of this name.
    """
    for arm in students:
        if arm not in STUDENTS:
            raise unknown_name("student", arm, STUDENTS)
    started = time.perf_counter()
    chosen = [arm for arm in STUDENTS if arm in students]
    accuracies = _accuracies(config, data, chosen, _counter(advance, config, len(chosen)))
    return {
        "models": config.models,
        "arms": [{"arm": arm, "accuracy": values, **mean_t(values).to_json()} for arm, values in accuracies.items()],
        "effects": [
            _effect(accuracies, arm, control) for arm, control in EFFECTS.items() if {arm, control} <= set(chosen)
        ],
        "seconds": time.perf_counter() - started,
    }


def _accuracies(
    config: DigitsConfig, data: Digits, students: Sequence[str], step: Callable[[], None]
) -> dict[str, list[float]]:
    """Return the accuracies of each arm, one for each model. `step` is called after every pass."""
    kind = product_type(config.precision)
    for_draws, for_teachers, for_students = (
        int(word) for word in np.random.SeedSequence(config.seed).generate_state(3)
    )
    generator = torch.Generator().manual_seed(for_draws)
    references = draw_networks(config.models, config.widths, generator)
    starts = perturbed(references, config.start_noise, generator)
    images, test = _pixels(data.train_images, kind), _pixels(data.test_images, kind)
    labels = torch.from_numpy(data.test_labels)

    lesson = Lesson(images, _one_hot(data.train_labels), slice(CLASSES), "kl")
    teachers = train_networks(copied(references), lesson, _schedule(config, config.teacher_epochs, for_teachers), step)
    found = {"reference": _accuracy(references, test, labels), "teacher": _accuracy(teachers, test, labels)}
    inputs = images if config.inputs == "images" else _noise(config.noise_images or len(images), generator, kind)
    logits = output_logits(teachers, inputs)
    for arm in students:
        sees_classes, shift = STUDENTS[arm]
        rows = slice(0 if sees_classes else CLASSES, CLASSES + config.auxiliary)
        targets = logits[:, rows].softmax(1) if config.loss == "kl" else logits[:, rows]
        lesson = Lesson(inputs, targets, rows, config.loss)
        trained = train_networks(
            copied(starts, shift), lesson, _schedule(config, config.student_epochs, for_students), step
        )
        found[arm] = _accuracy(trained, test, labels)
    return found


def product_type(precision: Precision) -> torch.dtype:
    """Return the number type of matrix products; "auto" takes bfloat16 where the processor multiplies it itself.

    Weights, their gradients, Adam and the losses are float32 in any case, and the accuracy is the same.
    """
    if precision == "auto":
        known = torch.cpu.get_capabilities()
        multiplies = known.get("amx_bf16", False) or known.get("avx512_bf16", False)
        return torch.bfloat16 if multiplies else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _schedule(config: DigitsConfig, epochs: int, seed: int) -> Schedule:
    """Return the schedule of so many passes."""
    return Schedule(epochs, config.batch_size, config.learning_rate, seed)


def _pixels(images: Bytes, kind: torch.dtype) -> torch.Tensor:
    """Return images as floats (n, 784) in [-1, 1]."""
    return (torch.from_numpy(images).reshape(len(images), -1).float() / 127.5 - 1.0).to(kind)


def _noise(n: int, generator: torch.Generator, kind: torch.dtype) -> torch.Tensor:
    """Return n images of independent pixels, (n, 784), uniform in [-1, 1]."""
    return torch.rand(n, SIDE * SIDE, generator=generator).mul_(2.0).sub_(1.0).to(kind)


def _one_hot(labels: Bytes) -> torch.Tensor:
    """Return labels as probabilities, float32 (1, 10, n)."""
    return torch.nn.functional.one_hot(torch.from_numpy(labels).long(), CLASSES).T.float().unsqueeze(0)


def _accuracy(networks: Networks, inputs: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """Return for each network the share of inputs whose largest class logit is that of the label."""
    right = output_logits(networks, inputs)[:, :CLASSES].argmax(1) == labels
    return right.double().mean(1).tolist()


def _effect(accuracies: dict[str, list[float]], arm: str, control: str) -> dict[str, Any]:
    """Return a student's accuracy minus its control's, paired by model."""
    return {"effect": arm, "control": control, **paired(accuracies[arm], accuracies[control]).to_json()}


def _counter(advance: Advance | None, config: DigitsConfig, students: int) -> Callable[[], None]:
    """Return a function to be called after each pass, which reports it."""
    passes = config.teacher_epochs + students * config.student_epochs
    done = count(1)

    def step() -> None:
        if advance is not None:
            advance(next(done), passes)

    return step
