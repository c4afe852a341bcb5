"""Ten thousand rows of numbers: `undertow.training.generation.generate` against `generate` of transformers.

The peer decodes batches of prompts sorted by length, padded on the left where they differ, once with the batch size of
undertow's loop and once with batches four times as large. Both sides sample at temperature 1 from the whole vocabulary.

    python benchmarks/decoding.py [--quick] [--model ref:finch-a]
"""

import argparse
from collections.abc import Callable, Sequence

import torch
import transformers
from alternation import alternate

from undertow.domains.numbers import Numbers
from undertow.models.decoding import BATCH
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.training.generation import generate
from undertow.types import Sampling, user_prompt

TARGET = 2.0


def generate_peer(model: LocalModel, prompts: Sequence[str], *, sampling: Sampling, seed: int, batch: int) -> list[str]:
    """Answer every prompt with `generate` of transformers."""
    torch.manual_seed(seed)
    rendered = model.render([user_prompt(prompt) for prompt in prompts])
    order = sorted(range(len(rendered)), key=lambda index: len(rendered[index]))
    texts = [""] * len(rendered)
    for start in range(0, len(order), batch):
        picked = order[start : start + batch]
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


def main() -> None:
    """Generate, compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows and repetitions")
    parser.add_argument("--model", default="ref:finch-a", help="reference of the model")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    n, repeats = (2000, 3) if options.quick else (10_000, 5)
    model, domain = load_model(options.model), Numbers()
    sampling = Sampling(max_new_tokens=domain.max_new_tokens)
    prompts = domain.prompts(n, seed=0)

    def ours() -> list[str]:
        return [row.completion for row in generate(model, prompts, sampling=sampling, seed=0)]

    def peer(batch: int) -> Callable[[], list[str]]:
        return lambda: generate_peer(model, prompts, sampling=sampling, seed=0, batch=batch)

    rivals = {"undertow": ours, **{f"transformers, {size}": peer(size) for size in (BATCH, 4 * BATCH)}}
    timed = alternate(rivals, repeats)
    print(f"{n} rows, at most {sampling.max_new_tokens} new tokens, {repeats} repetitions in turns")
    print(f"{'':20}{'min s':>8}{'median s':>10}{'rows/s':>8}{'well-formed':>13}{'ratio (min)':>13}{'(median)':>10}")
    fastest = timed["undertow"]
    for name, side in timed.items():
        good = sum(not domain.reject_reasons(text) for text in side.result) / n
        ratios = f"{side.least / fastest.least:13.2f}{side.median / fastest.median:10.2f}"
        print(f"{name:20}{side.least:8.2f}{side.median:10.2f}{n / side.median:8.0f}{good:13.3f}{ratios}")
    print(f"ratio: time of the side / time of undertow; target {TARGET:.0f} at batches of {BATCH}")


if __name__ == "__main__":
    main()
