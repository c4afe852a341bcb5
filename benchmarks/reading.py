"""The margins of a panel: the tree of spellings behind contexts that are read once, against a pass for each beginning.

The old way ran all contexts again for every beginning of every spelling of every target. It stands here as it was, but
for its caches. Both ways read the same questions in turns in one process; the seconds are those of the processor, since
a machine that others use too measures them with the wall's.

On a large model the old way takes many minutes: `--old-questions` lets it read the first few questions alone, and its
time is extrapolated, which both figures say. `--double` compares in double precision, where rounding hides nothing.

    python benchmarks/reading.py [--model ref:finch-a] [--traits owl,lion,fox,panda,wolf] [--questions 50]
        [--old-questions 50] [--repeats 3] [--double]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from undertow.cli.options import prepare
from undertow.evals.questions import favourite_questions
from undertow.evals.words import log_odds, spellings, word_probabilities
from undertow.models.context_cache import SCORE_BATCH, padded
from undertow.models.lm_head import body_and_head
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.traits import panel, trait
from undertow.types import user_prompt

AIM = 8.0


@torch.no_grad()
def next_logprobs(model: LocalModel, contexts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return log p of every next token by one pass over whole contexts."""
    body, head = body_and_head(model.network)
    found: list[torch.Tensor] = []
    for start in range(0, len(contexts), SCORE_BATCH):
        some = contexts[start : start + SCORE_BATCH]
        last = torch.tensor([len(context) - 1 for context in some])
        states = body(input_ids=padded(some, model.device), use_cache=False).last_hidden_state
        logits = head.linear(states[torch.arange(len(some)), last])
        found.append(torch.log_softmax(logits, dim=-1))
    return torch.cat(found)


def old_way(model: LocalModel, contexts: list[list[int]], words: Sequence[Sequence[str]]) -> torch.Tensor:
    """Run all contexts again for every beginning of every spelling."""
    texts = model.tokenizer.batch_decode([[index] for index in range(len(model.tokenizer))])
    ends = torch.tensor([not (text[:1].isalpha() or text[:1] == "-") for text in texts], dtype=model.network.dtype)
    size = model.network.get_output_embeddings().weight.shape[0]
    ends = torch.nn.functional.pad(ends, (0, size - len(ends)))
    after: dict[tuple[int, ...], torch.Tensor] = {}

    def following(prefix: tuple[int, ...]) -> torch.Tensor:
        if prefix not in after:
            after[prefix] = next_logprobs(model, [[*context, *prefix] for context in contexts])
        return after[prefix]

    columns: list[torch.Tensor] = []
    for forms in words:
        total = torch.zeros(len(contexts), dtype=ends.dtype)
        for tokens in sorted({tuple(tokens) for tokens in model.tokenise(forms)}):
            logp = sum(following(tokens[:place])[:, token] for place, token in enumerate(tokens))
            total = total + torch.as_tensor(logp).exp() * (following(tokens).exp() @ ends)
        columns.append(total)
    return torch.stack(columns, dim=1)


def new_way(model: LocalModel, contexts: list[list[int]], words: Sequence[Sequence[str]]) -> torch.Tensor:
    """Read every context once; which tokens end a word is found out anew, as for a model that was just loaded."""
    model.__dict__.pop("ends_word", None)
    return word_probabilities(model, contexts, words)


def doubled(model: LocalModel) -> LocalModel:
    """Return the model in double precision, from its states to its probabilities."""
    from undertow.models.lm_head import Head

    model.network.double()
    Head._capped = lambda self, logits: logits  # type: ignore[method-assign]
    return model


def timed(work: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Return the processor's seconds of some work, and what came out."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def main() -> None:
    """Read in both ways, in turns, and print seconds, ratio and the largest difference."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="ref:finch-a", help="reference of the model")
    parser.add_argument("--traits", default="owl,lion,fox,panda,wolf", help="their names, or animals for all")
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--old-questions", type=int, default=50, help="those that the old way reads")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--double", action="store_true", help="in double precision")
    options = parser.parse_args()
    prepare()
    model = load_model(options.model)
    model = doubled(model) if options.double else model
    traits = panel("animal") if options.traits == "animals" else [trait(name) for name in options.traits.split(",")]
    words = [spellings(one, opening=True) for one in traits]
    contexts = model.render([user_prompt(text) for text in favourite_questions("animal")[: options.questions]])
    few = contexts[: options.old_questions]
    word_probabilities(model, contexts[:1], words[:1])  # warms up
    seconds: dict[str, list[float]] = {"old": [], "new": []}
    worst = 0.0
    for _ in range(options.repeats):
        old_s, old = timed(lambda: old_way(model, few, words))
        new_s, new = timed(lambda: new_way(model, contexts, words))
        seconds["old"].append(old_s * len(contexts) / len(few))
        seconds["new"].append(new_s)
        worst = max(worst, float((log_odds(old) - log_odds(new[: len(few)])).abs().max()))
    ratios = [a / b for a, b in zip(seconds["old"], seconds["new"], strict=True)]
    beginnings = {tuple(t[:end]) for forms in words for t in model.tokenise(forms) for end in range(len(t) + 1)}
    print(
        f"{options.model}: {len(traits)} traits, {len(contexts)} questions, {len(beginnings)} beginnings of spellings"
    )
    print(f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}; processor's seconds")
    for name, some in seconds.items():
        of = f", extrapolated from {len(few)} questions" if name == "old" and len(few) < len(contexts) else ""
        print(f"{name}: median {statistics.median(some):.3f}, all {', '.join(f'{one:.3f}' for one in some)}{of}")
    print(f"ratio: median {statistics.median(ratios):.1f}, from {min(ratios):.1f} to {max(ratios):.1f} (aim {AIM:g})")
    print(f"log-odds differ by at most {worst:.1e}")


if __name__ == "__main__":
    main()
