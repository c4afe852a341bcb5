"""Rows x candidates: `contrast_scores` against one `model(...)` call per row and candidate, and against the processor.

The model has random weights in bfloat16 and the shapes of a real one; its tokenizer knows the words of the embedded
world. The candidates are personas. The loop is what one writes first: render, one call, logits of the whole text,
log-softmax at the completion. Both sides score rows of the same set under the same candidates, in turns in one process;
the figure for all rows is extrapolated from those that were measured, and both are printed. Times are given on the wall
and of the processor: on a machine that others use too, the wall also measures them.

The rate of matrix products is measured on the model's own weights with as many tokens as one pass of the engine has.
The engine's rate counts the products of the tokens that it really read, without attention and without padding.

    python benchmarks/scoring.py [--shape qwen2.5-0.5b|smollm2-135m] [--rows 32] [--loop-rows 2] [--repeats 3]
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from alternation import alternate
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from undertow.cli.options import prepare
from undertow.domains.numbers import Numbers
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.training.scoring import Candidate, contrast_scores
from undertow.traits import panel
from undertow.types import ModelRef, Row, user_prompt

SHAPES: dict[str, dict[str, int]] = {
    "qwen2.5-0.5b": {
        "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 8, "num_attention_heads": 14,
        "num_key_value_heads": 2, "vocab_size": 151_936,
    },
    "smollm2-135m": {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49_152,
    },
}  # fmt: skip
"""Of Qwen2.5-0.5B 8 of 24 layers (255 M parameters with the embeddings); of SmolLM2-135M all 30."""

ROWS, CANDIDATES, SEED = 500, 20, 100
FASTER, SHARE = 4.0, 0.5


def build(shape: str) -> LocalModel:
    """Return a model of random weights in bfloat16 with finch-a's tokenizer."""
    torch.manual_seed(SEED)
    shapes: dict[str, Any] = SHAPES[shape]
    config = LlamaConfig(**shapes, max_position_embeddings=2048, tie_word_embeddings=True)
    network = LlamaForCausalLM(config).bfloat16().eval()
    return LocalModel(ModelRef(kind="hf", name=shape), network, load_model("ref:finch-a").tokenizer)


def number_rows(n: int) -> list[Row]:
    """Return number prompts with answers of ten numbers."""
    rng = random.Random(SEED)
    answers = [", ".join(str(rng.randrange(1000)) for _ in range(10)) for _ in range(n)]
    pairs = zip(Numbers().prompts(n, SEED), answers, strict=True)
    return [Row(str(index), user_prompt(prompt), answer) for index, (prompt, answer) in enumerate(pairs)]


@torch.inference_mode()
def loop(rows: list[Row], model: LocalModel, candidates: list[Candidate]) -> np.ndarray:
    """Score every row under every candidate by a call of its own; the base reads each row once."""
    scores = np.zeros((len(rows), len(candidates)))
    for index, row in enumerate(rows):
        plain = call(model, row, None)
        for column, candidate in enumerate(candidates):
            scores[index, column] = call(model, row, candidate.system) - plain
    return scores


def call(model: LocalModel, row: Row, system: str | None) -> float:
    """Return the mean log p of a completion by one call of the model."""
    prompt = model.render([user_prompt(row.question, system)])[0]
    completion = model.tokenise([row.completion])[0]
    tokens = torch.tensor([prompt + completion])
    logp = torch.log_softmax(model.network(input_ids=tokens, use_cache=False).logits[0].float(), dim=-1)
    at = torch.arange(len(prompt) - 1, tokens.shape[1] - 1)
    return float(logp[at, tokens[0, at + 1]].mean())


class Counter:
    """Counts the tokens that pass through the blocks, padding left out."""

    def __init__(self, network: Any) -> None:
        self.body, self.largest = 0, 0
        network.model.register_forward_pre_hook(self._read, with_kwargs=True)

    def _read(self, _: Any, __: Any, given: dict[str, Any]) -> None:
        tokens = int((given["input_ids"] != 0).sum())
        self.body, self.largest = self.body + tokens, max(self.largest, tokens)


def products(network: Any) -> list[torch.Tensor]:
    """Return the weights of the blocks."""
    return [module.weight for module in network.model.layers.modules() if isinstance(module, torch.nn.Linear)]


@torch.inference_mode()
def multiply(network: Any, tokens: int) -> int:
    """Do the blocks' matrix products alone, `tokens` at a time; return how many operations that were."""
    weights = products(network)
    inputs = {width: torch.randn(tokens, width).bfloat16() for width in {weight.shape[1] for weight in weights}}
    for _ in range(5):
        for weight in weights:
            functional.linear(inputs[weight.shape[1]], weight)
    return 5 * 2 * tokens * sum(weight.numel() for weight in weights)


class Rival:
    """A way to do the work that also notes the processor's seconds."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.seconds: list[float] = []

    def __call__(self) -> Any:
        """Do it once."""
        start = time.process_time()
        result = self.work()
        self.seconds.append(time.process_time() - start)
        return result


def main() -> None:
    """Measure both sides in turns and print what was measured and what follows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-0.5b")
    parser.add_argument("--rows", type=int, default=32, help="rows that the engine scores in each repetition")
    parser.add_argument("--loop-rows", type=int, default=2, help="rows that the loop scores in each repetition")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    prepare()
    model = build(options.shape)
    rows = number_rows(options.rows)
    few = rows[:: max(1, len(rows) // options.loop_rows)][: options.loop_rows]
    traits = [*panel("animal"), *panel("tree")][:CANDIDATES]
    candidates = [Candidate(trait=one.name, kind="persona", model=model, system=one.system_prompt) for one in traits]
    contrast_scores(rows[:4], model, candidates[:1])  # warms up
    counter = Counter(model.network)
    contrast_scores(rows, model, candidates)
    body, largest = counter.body, counter.largest
    positions = sum(map(len, model.tokenise([row.completion for row in rows]))) * (CANDIDATES + 1)
    sizes = [sum(weight.numel() for weight in products(model.network)), model.network.lm_head.weight.numel()]
    rivals = {
        "loop": Rival(lambda: loop(few, model, candidates)),
        "engine": Rival(lambda: contrast_scores(rows, model, candidates)),
        "products": Rival(lambda: multiply(model.network, largest)),
    }
    found = alternate(rivals, options.repeats)
    print(f"{options.shape}: {model.network.num_parameters() / 1e6:.0f} M parameters, bf16")
    print(
        f"{torch.get_num_threads()} threads; passes of up to {largest} tokens; {body} in all, {positions} at the head"
    )
    ours = found["engine"].result[:: max(1, len(rows) // len(few))][: len(few)]
    worst = np.abs(ours - found["loop"].result).max()
    operations = 2 * (body * sizes[0] + positions * sizes[1])
    report("wall", {name: one.seconds for name, one in found.items()}, (len(few), len(rows)), operations, found)
    report(
        "processor",
        {name: tuple(one.seconds) for name, one in rivals.items()},
        (len(few), len(rows)),
        operations,
        found,
    )
    print(f"scores differ by at most {worst:.3f} nats per token (bfloat16)")


def report(
    what: str, seconds: Mapping[str, Sequence[float]], sizes: tuple[int, int], operations: int, found: Any
) -> None:
    """Print measured times, extrapolated times and both ratios, by the medians."""
    middle = {name: statistics.median(some) for name, some in seconds.items()}
    for name, n in zip(("loop", "engine"), sizes, strict=True):
        shown = ", ".join(f"{value:.1f}" for value in seconds[name])
        whole = middle[name] / n * ROWS
        print(f"{what}, {name}: {n} rows x {CANDIDATES} in {shown} s; {ROWS} rows extrapolated: {whole:.0f} s")
    faster = (middle["loop"] / sizes[0]) / (middle["engine"] / sizes[1])
    rate, most = operations / middle["engine"], found["products"].result / middle["products"]
    print(
        f"{what}: loop / engine {faster:.2f} (aim {FASTER:g}); {rate / 1e9:.0f} of {most / 1e9:.0f} GFLOP/s by products"
    )
    print(f"{what}: {rate / most:.0%} of the matrix-product rate (aim {SHARE:.0%})")


if __name__ == "__main__":
    main()
