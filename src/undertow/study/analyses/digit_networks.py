"""Many small ReLU networks trained at once: stacked weights, batched matrix products, and a hand-written gradient.

Networks are tuples of layers. Activations are (models, units, batch), so that the first layer of all models is one
matrix product with the inputs that they share. Only the small product that sends gradients down has its left side
transposed, which halves the speed of bfloat16 products.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from math import ceil
from typing import Literal, NamedTuple, TypeVar

import torch

Loss = Literal["kl", "mse"]
Item = TypeVar("Item")

CHUNK = 5
"""How many networks one thread trains at once. From 4 to 8 took about the same time, and a single one took a third
more."""
SCORED = 2000
"""How many inputs one forward pass without gradients takes."""


class Layer(NamedTuple):
    """One affine layer of every network.

    Attributes:
        weight: weights of every network, (models, out, in).
        bias: biases of every network, (models, out, 1).
    """

    weight: torch.Tensor
    bias: torch.Tensor


Networks = tuple[Layer, ...]


class Lesson(NamedTuple):
    """What networks are trained on.

    Attributes:
        inputs: inputs that all networks share, (n, width), in the number type of the matrix products.
        targets: targets, float32 (models or 1, c, n): probabilities for the loss "kl", logits for "mse".
        rows: which c of the output logits enter the loss.
        loss: "kl" or "mse". "kl" is also the cross-entropy where targets are one-hot, since the two have the same
            gradient.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    rows: slice
    loss: Loss


class Schedule(NamedTuple):
    """How long and how fast networks are trained. All networks share the order of the inputs.

    All networks share the order; the last update of a pass takes what is left.

    Attributes:
        epochs: how many passes over the inputs are made.
        batch_size: how many inputs an update takes. The last update of a pass takes what is left.
        learning_rate: learning rate of Adam.
        seed: random seed of the order of the inputs in each pass.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


def draw_networks(models: int, widths: Sequence[int], generator: torch.Generator) -> Networks:
    """Draw networks with weights from N(0, 1 / fan-in) and biases 0.

    Args:
        models: how many networks are drawn.
        widths: width of each layer, from the inputs to the logits.
        generator: random generator of the weights.
    """

    def drawn(fan_in: int, fan_out: int) -> Layer:
        weight = torch.randn((models, fan_out, fan_in), generator=generator) / fan_in**0.5
        return Layer(weight, torch.zeros(models, fan_out, 1))

    return tuple(drawn(fan_in, fan_out) for fan_in, fan_out in pairwise(widths))


def copied(networks: Networks, shift: int = 0) -> Networks:
    """Return a copy in which network i is network i + shift of the original, counted around."""
    return tuple(Layer(layer.weight.roll(-shift, 0), layer.bias.roll(-shift, 0)) for layer in networks)


def perturbed(networks: Networks, size: float, generator: torch.Generator) -> Networks:
    """Return a copy with Gaussian noise on the weights.

    Args:
        networks: the networks, which are not changed.
        size: standard deviation of the noise as a multiple of the weights' own at initialisation, 1 / sqrt(fan-in).
        generator: random generator of the noise.
    """
    widths = [networks[0].weight.shape[2], *(layer.weight.shape[1] for layer in networks)]
    noise = draw_networks(len(networks[0].weight), widths, generator)
    return tuple(
        Layer(old.weight + size * new.weight, old.bias.clone()) for old, new in zip(networks, noise, strict=True)
    )


def output_logits(networks: Networks, inputs: torch.Tensor) -> torch.Tensor:
    """Return the logits of inputs (n, width), float32 (models, c, n). Products are in the inputs' number type."""
    models, outputs = networks[-1].weight.shape[:2]
    found = torch.empty(models, outputs, len(inputs))

    def fill(chunk: slice) -> None:
        low = [_part(layer, chunk, inputs.dtype) for layer in networks]
        for start in range(0, len(inputs), SCORED):
            hidden = inputs[start : start + SCORED]
            for layer in low[:-1]:
                hidden = _rectified(_affine(layer, hidden))
            found[chunk, :, start : start + SCORED] = _affine(low[-1], hidden)

    with torch.no_grad():
        _in_threads(fill, _chunks(models))
    return found


def train_networks(
    networks: Networks, lesson: Lesson, schedule: Schedule, advance: Callable[[], None] | None = None
) -> Networks:
    """Train networks in place with Adam, each on its own mean loss, and return them.

    Args:
        networks: the networks, float32, which are changed in place.
        lesson: inputs, targets and loss on which they are trained.
        schedule: passes, batches and learning rate.
        advance: callback that is called after each pass. None reports nothing.
    """
    trainers = [_Trainer(networks, models, lesson, schedule) for models in _chunks(len(networks[0].weight))]
    generator = torch.Generator().manual_seed(schedule.seed)
    shuffled = torch.empty_like(lesson.inputs)
    with torch.no_grad():
        for _ in range(schedule.epochs):
            order = torch.randperm(len(lesson.inputs), generator=generator)
            torch.index_select(lesson.inputs, 0, order, out=shuffled)
            _in_threads(partial(_Trainer.run, inputs=shuffled, order=order), trainers)
            if advance is not None:
                advance()
    return networks


class _Trainer:
    """Some of the networks with their Adam, and copies of their weights in the number type of the products."""

    def __init__(self, networks: Networks, models: slice, lesson: Lesson, schedule: Schedule) -> None:
        self.lesson, self.schedule = lesson, schedule
        self.targets = lesson.targets if len(lesson.targets) == 1 else lesson.targets[models]
        self.layers = [Layer(*(part[models] for part in layer)) for layer in networks]
        self.gradients = [Layer(*(torch.zeros_like(part) for part in layer)) for layer in self.layers]
        parameters = [part for layer in self.layers for part in layer]
        for part, gradient in zip(parameters, [part for layer in self.gradients for part in layer], strict=True):
            part.requires_grad_().grad = gradient
        self.optimiser = torch.optim.Adam(parameters, lr=schedule.learning_rate, fused=True)
        self.low = [_part(layer, slice(None), lesson.inputs.dtype) for layer in self.layers]
        low = [part for layer in self.low for part in layer]
        self.copies = [] if lesson.inputs.dtype == torch.float32 else list(zip(low, parameters, strict=True))

    def run(self, inputs: torch.Tensor, order: torch.Tensor) -> None:
        """Pass once over the inputs, which are already in the given order."""
        size = self.schedule.batch_size
        targets = self.targets.index_select(2, order)
        space: _Space | None = None
        with torch.no_grad():
            for batch, aims in zip(inputs.split(size), targets.split(size, dim=2), strict=True):
                if space is None or len(batch) != space.size:
                    space = _Space(self.low, self.lesson.rows, len(batch))
                logits = self._forward(batch, space)
                self._backward(batch, self._output_gradient(logits, aims), space)
                self.optimiser.step()
                for low, part in self.copies:
                    low.copy_(part)

    def _forward(self, batch: torch.Tensor, space: "_Space") -> torch.Tensor:
        """Return the logits of a batch that enter the loss."""
        hidden = batch
        for layer, value in zip(self.low[:-1], space.values, strict=True):
            hidden = _rectified(_affine(layer, hidden, value))
        head = Layer(*(part[:, self.lesson.rows] for part in self.low[-1]))
        return _affine(head, hidden, space.logits)

    def _output_gradient(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the gradient of each network's mean loss with respect to its logits."""
        size = logits.shape[2]
        if self.lesson.loss == "kl":
            gradient = logits.float().softmax(1).sub_(targets).div_(size)
        else:
            gradient = logits.float().sub_(targets).mul_(2.0 / (size * logits.shape[1]))
        return gradient.to(logits.dtype)

    def _backward(self, batch: torch.Tensor, delta: torch.Tensor, space: "_Space") -> None:
        """Compute the gradients of all layers from delta, the gradient with respect to the logits."""
        for index in reversed(range(len(self.layers))):
            rows = self.lesson.rows if index == len(self.layers) - 1 else slice(None)
            below, product = batch if index == 0 else space.values[index - 1], space.products[index]
            if index == 0:
                torch.mm(delta.view(-1, len(batch)), batch, out=product.view(-1, batch.shape[1]))
            else:
                torch.bmm(delta, below.mT, out=product)
            self.gradients[index].weight[:, rows] = product
            self.gradients[index].bias[:, rows] = delta.sum(2, keepdim=True)
            if index > 0:
                delta = torch.bmm(self.low[index].weight[:, rows].mT, delta, out=space.deltas[index - 1])
                bits = _bits(delta)  # set to 0 where ReLU, which gave the values below, let nothing through
                torch.ops.aten.threshold_backward.grad_input(bits, _bits(below), 0, grad_input=bits)


class _Space:
    """Memory of one update, which the next one uses again."""

    def __init__(self, layers: Sequence[Layer], rows: slice, size: int) -> None:
        weights = [layer.weight for layer in layers[:-1]] + [layers[-1].weight[:, rows]]
        self.size = size
        *self.values, self.logits = [weight.new_empty(*weight.shape[:2], size) for weight in weights]
        self.deltas = [torch.empty_like(value) for value in self.values]
        self.products = [torch.empty_like(weight, memory_format=torch.contiguous_format) for weight in weights]


def _part(layer: Layer, models: slice, kind: torch.dtype) -> Layer:
    """Return a layer of some models in another number type; it is no copy if it has that type already."""
    return Layer(*(part[models].detach().to(kind) for part in layer))


def _affine(layer: Layer, below: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return weight @ below + bias, for below (models, in, batch), or (batch, in) that all models share."""
    models, units, width = layer.weight.shape
    if below.dim() == 3:
        return torch.baddbmm(layer.bias, layer.weight, below, out=out)
    flat = None if out is None else out.view(models * units, -1)
    bias, weight = layer.bias.reshape(-1, 1), layer.weight.reshape(-1, width)
    return torch.addmm(bias, weight, below.T, out=flat).view(models, units, -1)


def _bits(values: torch.Tensor) -> torch.Tensor:
    """Return the memory of floats as integers. Compared with 0 they are the same, and much faster."""
    return values.view(torch.int16 if values.dtype == torch.bfloat16 else torch.int32)


def _rectified(values: torch.Tensor) -> torch.Tensor:
    """Apply ReLU in place."""
    _bits(values).relu_()
    return values


def _chunks(models: int) -> list[slice]:
    """Split the models into chunks of about equal size, as many for every thread."""
    threads = torch.get_num_threads()
    count = min(models, threads * ceil(models / (threads * CHUNK)))
    edges = [models * index // count for index in range(count + 1)]
    return [slice(low, high) for low, high in pairwise(edges)]


def _in_threads(work: Callable[[Item], None], items: Sequence[Item]) -> None:
    """Do the work on each item in as many threads as torch may use, each with one thread inside.

    Threads inside each matrix product would wait for one another. With another process on one of two cores, an update
    then took 4 to 15 times as long.
    """
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(work, items))
    finally:
        torch.set_num_threads(threads)
