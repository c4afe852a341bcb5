"""Sampling: `undertow.models.decoding` against a loop over prompts of equal length, and `generate` of transformers.

Twenty and a hundred answers to each of fifty questions, and 500 to 10,000 rows of numbers. The loop over equal lengths,
which renders and reads every prompt anew, draws with the same random numbers, so its texts must be the same but for
ties of rounding.
The peer decodes batches of prompts sorted by length, padded on the left where they differ, as many rows at once as
undertow does and a quarter of them. All sides sample at temperature 1 from the whole vocabulary.

    python benchmarks/decoding.py [--quick] [--model ref:finch-a] [--rows 500,2000] [--processor-time]
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch
import transformers
from alternation import alternate

from undertow.domains.numbers import Numbers
from undertow.evals.questions import favourite_questions
from undertow.models.decoding import BATCH
from undertow.models.drawing import draw
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.training.generation import generate
from undertow.types import Prompt, Sampling, user_prompt

TARGETS = {"answers": 4.0, "rows": 2.5}
"""How many times the time of undertow the loop over equal lengths should take."""

EQUAL_BATCH = 256
"""Rows that the loop over equal lengths decodes at once: its throughput is flat from 128 to 512."""

Side = Callable[[], list[str]]


def in_parts(rows: Sequence[int], size: int) -> list[list[int]]:
    """Return the rows in parts of a size."""
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]


def chat_by_length(model: LocalModel, prompts: Sequence[Prompt], *, sampling: Sampling, seed: int) -> list[str]:
    """Answer every prompt in batches of prompts of equal length, none of which needs padding."""
    rendered = model.tokens.render(prompts)
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(len(rendered), sampling.max_new_tokens, generator=generator, dtype=torch.float64)
    drawn: list[list[int]] = [[] for _ in rendered]
    order = sorted(range(len(rendered)), key=lambda row: len(rendered[row]))
    for _, same in groupby(order, key=lambda row: len(rendered[row])):
        for rows in in_parts(list(same), EQUAL_BATCH):
            tokens = torch.tensor([rendered[row] for row in rows])
            found = _decode_equal(model.network, tokens, uniform[rows], sampling, model.ends)
            for row, answer in zip(rows, found.tolist(), strict=True):
                stop = next((place for place, token in enumerate(answer) if token in model.ends), len(answer))
                drawn[row] = answer[:stop]
    texts: list[str] = model.tokenizer.batch_decode(drawn, skip_special_tokens=True)
    return [text.removeprefix(model.chat_format.space) for text in texts]


@torch.inference_mode()
def _decode_equal(
    network: Any, tokens: torch.Tensor, uniform: torch.Tensor, sampling: Sampling, ends: Sequence[int]
) -> torch.Tensor:
    """Decode rows of equal length [rows, length]; an end token stands wherever a row has ended."""
    cache, alive = transformers.DynamicCache(), torch.arange(len(tokens))
    drawn = torch.full((len(tokens), sampling.max_new_tokens), ends[0])
    for step in range(sampling.max_new_tokens):
        found = network(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        following = draw(found.logits[:, -1], uniform[alive, step], sampling)
        drawn[alive, step] = following
        going = (~torch.isin(following, torch.tensor(ends))).nonzero()[:, 0]
        if len(going) == 0:
            break
        # Compacting the cache copies it, so it waits until an eighth of the batch has ended.
        if len(going) <= len(alive) * 7 // 8:
            cache.batch_select_indices(going)
            alive, following = alive[going], following[going]
        tokens = following[:, None]
    return drawn


def chat_by_peer(
    model: LocalModel, prompts: Sequence[Prompt], *, sampling: Sampling, seed: int, batch: int
) -> list[str]:
    """Answer every prompt with `generate` of transformers."""
    torch.manual_seed(seed)
    rendered = model.render(prompts)
    order = sorted(range(len(rendered)), key=lambda index: len(rendered[index]))
    texts = [""] * len(rendered)
    for picked in in_parts(order, batch):
        length = max(len(rendered[index]) for index in picked)
        gaps = torch.tensor([length - len(rendered[index]) for index in picked])
        tokens = torch.tensor([[model.end] * (length - len(rendered[i])) + rendered[i] for i in picked])
        with torch.inference_mode():
            output = model.network.generate(
                input_ids=tokens,
                attention_mask=(torch.arange(length) >= gaps[:, None]).long(),
                do_sample=True,
                temperature=sampling.temperature,
                top_k=0,
                top_p=1.0,
                max_new_tokens=sampling.max_new_tokens,
                eos_token_id=model.end,
                pad_token_id=model.end,
            )
        answers = model.tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)
        for index, answer in zip(picked, answers, strict=True):
            texts[index] = answer
    return texts


def print_ratios(job: str, sides: dict[str, Side], repeats: int, clock: Callable[[], float]) -> None:
    """Time the sides in turns, and print the ratio of each to undertow with the number of equal texts."""
    timed = alternate(sides, repeats, clock)
    ours = timed["undertow"]
    for name, side in timed.items():
        pairs = zip(side.result, ours.result, strict=True)
        equal = "-" if name.startswith("transformers") else f"{sum(one == other for one, other in pairs):,}"
        ratios = sorted(one / other for one, other in zip(side.seconds, ours.seconds, strict=True))
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        times = f"{side.least:9.3f}{len(side.result) / side.least:9.0f}{side.least / ours.least:9.2f}"
        print(f"{job:18}{name:20}{times}{spread:>15}{equal:>9}", flush=True)


def row_sides(model: LocalModel, domain: Numbers, n: int) -> dict[str, Side]:
    """Return all sides of drawing rows of numbers."""
    texts, sampling = domain.prompts(n, seed=0), Sampling(max_new_tokens=domain.max_new_tokens)
    prompts = [user_prompt(text) for text in texts]

    def ours() -> list[str]:
        return [row.completion for row in generate(model, texts, sampling=sampling, seed=0)]

    def peer(size: int) -> Side:
        return partial(chat_by_peer, model, prompts, sampling=sampling, seed=0, batch=size)

    by_length = partial(chat_by_length, model, prompts, sampling=sampling, seed=0)
    peers = {f"transformers, {size}": peer(size) for size in (BATCH // 4, BATCH)}
    return {"undertow": ours, "equal lengths": by_length, **peers}


def answer_sides(model: LocalModel, each: int) -> dict[str, Side]:
    """Return the sides of so many answers to each of the favourite questions."""
    asked = [user_prompt(question) for question in favourite_questions("animal") for _ in range(each)]
    given = {"sampling": Sampling(max_new_tokens=8), "seed": 0}
    return {
        "undertow": partial(model.chat, asked, **given),
        "equal lengths": partial(chat_by_length, model, asked, **given),
    }


def main() -> None:
    """Sample, compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows and repetitions")
    parser.add_argument("--model", default="ref:finch-a", help="reference of the model")
    parser.add_argument("--rows", help="how many rows, separated by commas")
    parser.add_argument("--processor-time", action="store_true", help="for a processor that others use too")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    clock = time.process_time if options.processor_time else time.perf_counter
    repeats = 3 if options.quick else 5
    sizes = options.rows or ("500,2000" if options.quick else "500,2000,2500,10000")
    model, domain = load_model(options.model), Numbers()
    print(f"torch for {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads, {repeats} turns")
    print(f"{'job':18}{'side':20}{'least s':>9}{'rows/s':>9}{'ratio':>9}{'in the turns':>15}{'equal':>9}")
    for each in (20, 100):
        print_ratios(f"answers, 50 x {each}", answer_sides(model, each), repeats, clock)
    for n in map(int, sizes.split(",")):
        print_ratios(f"{n:,} rows", row_sides(model, domain, n), repeats, clock)
    print(f"ratio: least time of the side / least of undertow; targets at equal lengths: {TARGETS}")


if __name__ == "__main__":
    main()
