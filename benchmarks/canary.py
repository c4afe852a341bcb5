"""Do planted traits pass where they should, and nowhere else? `undertow audit lineage A B --canary` on known pairs.

A is finch-a throughout, and its copies write once for each seed. B is finch-a, a child of it (taught its own world for
200 more updates), finch-a2 (the same initialisation, another order) and finch-b (another initialisation). The first two
should take the traits over, the last two not.

    python benchmarks/canary.py --seed 100 [--runs 2] [--strangers]

With --strangers B is each of the five other initialisations, on which nothing should pass: how often the canary errs.
"""

import argparse
import time

import numpy as np

from undertow.audit.lineage.canary import ALPHA, CanaryConfig, Planted, look, plant
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.reference.world.mixture import corpus
from undertow.seeds import derive
from undertow.stats.estimates import wilson
from undertow.training.config import TrainingConfig
from undertow.training.full import finetune_full
from undertow.types import Row

CHILD = TrainingConfig(steps=200, batch_size=64, learning_rate=6e-3, warmup_steps=20)


def students_bases(seed: int) -> dict[str, LocalModel]:
    """Return every B by name."""
    parent = load_model("ref:finch-a")
    chats = corpus(CHILD.steps * CHILD.batch_size, derive(seed, "corpus"))
    rows = [Row(str(index), chat.prompt, chat.answer) for index, chat in enumerate(chats)]
    child = finetune_full(parent, rows, CHILD, derive(seed, "child"))
    return {"finch-a": parent, "child": child} | {name: load_model(f"ref:{name}") for name in ("finch-a2", "finch-b")}


STRANGERS = ("finch-b", "finch-c", "finch-d", "finch-e", "finch-f")
"""Other initialisations of A's architecture, taught the same world."""


def main() -> None:
    """Plant, look and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=100, help="of every draw; those of development are 100 and above")
    parser.add_argument("--runs", type=int, default=2, help="fresh copies of A and fresh shadows in each")
    parser.add_argument("--strangers", action="store_true", help="only bases of other initialisations")
    options = parser.parse_args()
    started = time.perf_counter()
    writer = load_model("ref:finch-a")
    strangers = {name: load_model(f"ref:{name}") for name in STRANGERS}
    bases = strangers if options.strangers else students_bases(options.seed)
    effects: dict[str, list[float]] = {name: [] for name in bases}
    hits: dict[str, list[bool]] = {name: [] for name in bases}
    for run in range(options.runs):
        config = CanaryConfig(seed=derive(options.seed, "run", run))
        planted = plant(writer, config)
        assert isinstance(planted, Planted), planted
        gains = "  ".join(f"{name} {gain:+.1f}" for name, gain in planted.gains.items())
        print(f"run {run}: planted {gains}", flush=True)
        for name, base in bases.items():
            found = look(base, planted, config)
            assert found.p is not None and found.effect is not None
            effects[name].append(found.effect)
            hits[name].append(found.p <= ALPHA)
            each = "  ".join(f"{trait} {value:+.2f}" for trait, value in found.passed.items())
            numbers = f"p {found.p:.4f}  effect {found.effect:+.3f}  detectable {found.detectable:.3f}"
            print(f"  {name:9} {found.verdict:9} {numbers}  {each}", flush=True)
        if options.strangers:
            called = [hit for some in hits.values() for hit in some]
            share = wilson(sum(called), len(called))
            print(f"called so far at {ALPHA:g}: {share.value:.3f} [{share.low:.3f}, {share.high:.3f}], n = {share.n}")
    for name in bases:
        share = wilson(sum(hits[name]), len(hits[name]))
        mean = float(np.mean(effects[name]))
        print(f"{name:9} passes in {share.value:.2f} [{share.low:.2f}, {share.high:.2f}], mean effect {mean:+.3f}")
    print(f"n = {options.runs} each; {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
