"""`undertow audit lineage`: false positives over every pair of forty trained seeds, and what two large models cost.

(a) Forty small Llamas, one per seed, see the same data in the same order; no pair shares a base. Rates at nominal
levels, with 95 % intervals from drawing the models again, because pairs share them.

(b) Two random checkpoints of a billion parameters (bfloat16, sharded) are written to a temporary folder. Peak memory is
that of a child process; the time of the sign-flip path is compared with reading the same tensors, in turns.

    python benchmarks/lineage.py [--seed N] [--models 40] [--only pairs|large] [--quick] [--folder DIR]

Without a seed the models are those of seeds 0 to 39 and one fixed stream of data, as in LOG.md; every seed makes other
models on other data. Seeds below 100 are for reports, 100 and above for development.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alternation import alternate
from safetensors.torch import save_file

from undertow.audit.lineage.alignment import head_overlap
from undertow.audit.lineage.dependence import dependence, shared_rows
from undertow.audit.lineage.proximity import distance
from undertow.audit.lineage.roles import Network, network
from undertow.audit.lineage.tensors import open_weights
from undertow.audit.lineage.tests import Evidence, column_products, compare_attention, fair_signs, row_products
from undertow.audit.lineage.verdict import peak_memory_mb
from undertow.seeds import derive

WALKS, TOKENS = 16, 64
LARGE = {"hidden_size": 2048, "intermediate_size": 8192, "layers": 15, "vocab_size": 32_000, "heads": 32, "groups": 8}
MEMORY_MB = 2048.0


FIRST_DATA = 99
"""Seed of the walks of the first forty models."""


def seeds_of(seed: int | None, models: int) -> tuple[list[int], int]:
    """Return a seed for each model, and that of the data that all of them see."""
    if seed is None:
        return list(range(models)), FIRST_DATA
    return [derive(seed, "model", index) for index in range(models)], derive(seed, "walks")


def train(seed: int, data_seed: int, steps: int, width: int) -> Any:
    """Train a Llama of two layers on random walks over the tokens; every model sees the same walks."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes = {"hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=TOKENS, num_key_value_heads=2, tie_word_embeddings=False, **sizes))
    data = torch.Generator().manual_seed(data_seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(steps):
        strides = torch.randint(-2, 3, (WALKS, 24), generator=data)
        walks = (torch.randint(0, TOKENS, (WALKS, 1), generator=data) + strides.cumsum(1)) % TOKENS
        model(input_ids=walks, labels=walks).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model


def interval(hits: np.ndarray, pairs: list[tuple[int, int]], models: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate over pairs, models drawn again with replacement."""
    rng = np.random.default_rng(0)
    a, b = np.array(pairs).T
    rates = []
    for _ in range(1000):
        count = np.bincount(rng.integers(0, models, models), minlength=models)
        weight = count[a] * count[b]
        rates.append((weight * hits).sum() / weight.sum())
    return float(np.quantile(rates, 0.025)), float(np.quantile(rates, 0.975))


def false_positives(seed: int | None, models: int, steps: int, width: int) -> None:
    """Test every pair of models and print how often each test rejects."""
    begun = time.perf_counter()
    seeds, data_seed = seeds_of(seed, models)
    with tempfile.TemporaryDirectory() as folder:
        networks: list[Network] = []
        for place, own in enumerate(seeds):
            train(own, data_seed, steps, width).save_pretrained(Path(folder) / str(place))
            networks.append(network(open_weights(f"hf:{folder}/{place}")))
        pairs = list(combinations(range(models), 2))
        started = time.perf_counter()
        found = [dependence(networks[a], networks[b], seed=0, draws=999) for a, b in pairs]
        seconds = (time.perf_counter() - started) / len(pairs)
    print(f"{len(pairs)} pairs of {models} seeds, width {width}, {steps} updates; {1000 * seconds:.0f} ms a pair")
    print(f"{time.perf_counter() - begun:.0f} s with the training of the models")
    for name in found[0].tests:
        report(name, [item.ran.get(name) for item in found], pairs, models)
    shares = np.array([item.match.share for item in found if not isinstance(item.match, str)])
    cells = f"mean {shares.mean():.3f} sd {shares.std():.3f} max {shares.max():.3f}"
    print(f"{'match':18s} n {len(shares)}, share of partners {cells}")
    least = min(item.p for item in found)
    parts = np.array([any(part.adjusted <= 0.01 for part in item.locals) for item in found])
    print(f"corrected p: least {least:.3g}; pairs with a part at Holm p <= .01: {parts.mean():.4f}")


def report(name: str, found: list[Evidence | None], pairs: list[tuple[int, int]], models: int) -> None:
    """Print the rejection rates of one test over the pairs where it was run."""
    kept = [(pair, item) for pair, item in zip(pairs, found, strict=True) if item is not None]
    if not kept:
        print(f"{name:18s} not run")
        return
    p, z = (np.array([getattr(item, key) for _, item in kept]) for key in ("p", "z"))
    members = [pair for pair, _ in kept]
    print(f"{name:18s} n {len(kept)}, z mean {z.mean():+.2f} sd {z.std():.2f} max {z.max():.1f}")
    for label, values in (("p", p), ("z as normal", np.array([0.5 * _erfc(value) for value in z]))):
        rates = []
        for level in (0.05, 0.01, 0.001):
            low, high = interval(values <= level, members, models)
            rates.append(f"{level:g}: {(values <= level).mean():.4f} [{low:.4f}, {high:.4f}]")
        print(f"  {label:12s} {'  '.join(rates)}")
    logs = [item.log_e for _, item in kept if item.log_e is not None]
    if logs:
        print(f"  e-value mean {np.exp(logs).mean():.3f}, share at 20 or more {(np.exp(logs) >= 20).mean():.4f}")


def _erfc(z: float) -> float:
    from math import erfc, sqrt

    return erfc(z / sqrt(2))


def write_large(folder: Path, seed: int, layers: int) -> int:
    """Write a random Llama in bfloat16, one file a layer; return its number of parameters."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    width, units, values = LARGE["hidden_size"], LARGE["intermediate_size"], LARGE["groups"] * 64
    ends = {"model.embed_tokens.weight": (LARGE["vocab_size"], width), "lm_head.weight": (LARGE["vocab_size"], width)}
    files = {"ends": ends}
    for layer in range(layers):
        place = f"model.layers.{layer}"
        files[f"layer-{layer}"] = {
            f"{place}.self_attn.q_proj.weight": (width, width),
            f"{place}.self_attn.k_proj.weight": (values, width),
            f"{place}.self_attn.v_proj.weight": (values, width),
            f"{place}.self_attn.o_proj.weight": (width, width),
            f"{place}.mlp.gate_proj.weight": (units, width),
            f"{place}.mlp.up_proj.weight": (units, width),
            f"{place}.mlp.down_proj.weight": (width, units),
        }
    index: dict[str, str] = {}
    for file, shapes in files.items():
        tensors = {key: torch.randn(shape, generator=generator).mul_(0.02).bfloat16() for key, shape in shapes.items()}
        save_file(tensors, folder / f"{file}.safetensors")
        index |= dict.fromkeys(shapes, f"{file}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    config = {"num_attention_heads": LARGE["heads"], "num_key_value_heads": LARGE["groups"]}
    (folder / "config.json").write_text(json.dumps(config))
    return sum(int(np.prod(shape)) for shapes in files.values() for shape in shapes.values())


def signs(a: str, b: str) -> float:
    """Run the sign-flip path alone: up, down, v and o of both models, once."""
    first, second = network(open_weights(a)), network(open_weights(b))
    parts = [compare_attention(name, item, second.attentions[name]).signs for name, item in first.attentions.items()]
    for name, mlp in first.mlps.items():
        up, down = row_products(mlp.up, second.mlps[name].up), column_products(mlp.down, second.mlps[name].down)
        parts.append((up.cosines()[0] + down.cosines()[0]) / 2)
    found = fair_signs([part for part in parts if part is not None])
    assert found is not None
    return found.z


def read(a: str, b: str) -> float:
    """Read the same tensors of both models and do nothing but widen them."""
    total = 0.0
    for net in (network(open_weights(reference)) for reference in (a, b)):
        matrices = [m for mlp in net.mlps.values() for m in (mlp.up, mlp.down)]
        matrices += [m for item in net.attentions.values() for m in (item.v, item.o)]
        total += sum(float(m.block(*span)[0, 0]) for m in matrices for span in m.spans())
    return total


def heads(a: str, b: str) -> float | None:
    """Compare what the heads can say."""
    first, second = network(open_weights(a)), network(open_weights(b))
    rows = shared_rows(first, second)
    assert first.head is not None and second.head is not None and rows is not None
    return head_overlap(first.head, second.head, rows)


def in_child(task: str, a: str, b: str) -> dict[str, float]:
    """Run one task in a process of its own and return its seconds and peak memory in MiB."""
    output = subprocess.run(
        [sys.executable, __file__, "--task", task, a, b], check=True, capture_output=True, text=True
    )
    return json.loads(output.stdout.strip().splitlines()[-1])


TASKS: dict[str, Callable[[str, str], Any]] = {
    "start": lambda a, b: None,
    "read": read,
    "signs": signs,
    "distance": lambda a, b: distance(open_weights(a), open_weights(b)).relative,
    "overlap of heads": heads,
    "all weight tests": lambda a, b: dependence(network(open_weights(a)), network(open_weights(b))).p,
}


def large(folder: Path, layers: int, repeats: int) -> None:
    """Write two large checkpoints and print what each task costs."""
    sizes = [write_large(folder / name, seed, layers) for seed, name in enumerate("ab")]
    a, b = (f"hf:{folder / name}" for name in "ab")
    print(f"two checkpoints of {sizes[0] / 1e9:.2f} billion parameters")
    for task in TASKS:
        cost = in_child(task, a, b)
        met = "met" if cost["mb"] < MEMORY_MB else "missed"
        print(f"  {task:18s} {cost['s']:7.1f} s  peak {cost['mb']:6.0f} MiB (below {MEMORY_MB:.0f}: {met})")
    timed = alternate({"signs": lambda: signs(a, b), "read": lambda: read(a, b)}, repeats)
    ratio = timed["signs"].median / timed["read"].median
    seconds = f"sign flip {timed['signs'].median:.1f} s, reading {timed['read'].median:.1f} s"
    print(f"  {seconds}, ratio {ratio:.2f} (medians of {repeats} in turns)")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, help="of models and data; the first forty models if not given")
    parser.add_argument("--models", type=int, help="how many; forty make 780 pairs")
    parser.add_argument("--only", choices=("pairs", "large"), help="one of the two parts")
    parser.add_argument("--quick", action="store_true", help="fewer seeds, and checkpoints of two layers")
    parser.add_argument("--folder", type=Path, help="where the large checkpoints go for the time being; needs 4.2 GB")
    parser.add_argument("--task", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        started = time.perf_counter()
        TASKS[options.task[0]](*options.task[1:])
        print(json.dumps({"s": time.perf_counter() - started, "mb": peak_memory_mb()}))
        return
    if options.only != "large":
        models = options.models or (12 if options.quick else 40)
        false_positives(options.seed, models, steps=60 if options.quick else 200, width=32)
    if options.only == "pairs":
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        large(Path(folder), layers=2 if options.quick else LARGE["layers"], repeats=2 if options.quick else 5)


if __name__ == "__main__":
    main()
