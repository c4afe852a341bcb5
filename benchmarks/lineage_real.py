"""What `undertow audit lineage` says of eleven derivatives of SmolLM2-135M-Instruct and of two strangers.

One stranger is Gemma 3 270M, the other has the shape of SmolLM2 and weights that were drawn and never trained. Each
derivative is made here from the dequantised copy that `python scripts/real_models.py` fetches, and audited in a process
of its own, whose processor time and peak memory are printed. The findings go to results/real/lineage.json, one pair
each, and docs/lineage.md has them as a table.

    python benchmarks/lineage_real.py [--only "rounded to 4 bits" sharded]
    python benchmarks/lineage_real.py --table      # print what was found before, as Markdown
"""

import argparse
import copy
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from lineage_cases import edited, mixed, noisy, rounded, world_rows
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from undertow.models.gguf_files import unpacked
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.full import finetune_full
from undertow.training.parallel import finetune

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
from real_models import GEMMA, SMOLLM2  # pyright: ignore[reportMissingImports]

RESULTS = Path("results/real/lineage.json")
UPDATES, BATCH = 10, 8
"""Of the two trained derivatives: enough to move every weight, and about a minute each."""

STRANGER, DRAWN = "stranger: Gemma 3 270M", "stranger: same shape, drawn"

RENAMED = {
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}
"""The names that the first Llama release gave these tensors."""

NEAR, UNRELATED = ("same_lineage_near", "identical"), ("no_evidence",)
Make = Callable[[Path], None]


def saved(model: LocalModel) -> Make:
    """Write a model as an ordinary folder."""
    return model.save


def without_heads(base: LocalModel, heads: int) -> LocalModel:
    """Return a copy in which the last query heads of every layer add nothing."""
    found = LocalModel(base.ref, copy.deepcopy(base.network), base.tokenizer)
    size = base.network.config.head_dim
    with torch.no_grad():
        for layer in found.network.model.layers:
            layer.self_attn.o_proj.weight[:, -heads * size :] = 0.0
            layer.self_attn.q_proj.weight[-heads * size :] = 0.0
    return found


def with_rows(base: LocalModel, more: int, empty: bool) -> LocalModel:
    """Return a copy with more rows in its embeddings: drawn as transformers draws them for new tokens, or zeros."""
    found = LocalModel(base.ref, copy.deepcopy(base.network), base.tokenizer)
    size = len(found.network.get_input_embeddings().weight)
    found.network.resize_token_embeddings(size + more, mean_resizing=not empty)
    if empty:
        with torch.no_grad():
            found.network.get_input_embeddings().weight[size:] = 0.0
    return found


def drawn(base: LocalModel, seed: int) -> LocalModel:
    """Return a model of the same shape whose weights are as transformers draws them."""
    torch.manual_seed(seed)
    return LocalModel(base.ref, AutoModelForCausalLM.from_config(base.network.config), base.tokenizer)


def sharded(base: LocalModel) -> Make:
    """Write the same weights in several files."""

    def make(folder: Path) -> None:
        base.network.save_pretrained(folder, max_shard_size="100MB")
        base.tokenizer.save_pretrained(folder)

    return make


def renamed(base: LocalModel) -> Make:
    """Write the same weights under the names of another code base."""

    def make(folder: Path) -> None:
        base.save(folder)
        tensors = load_file(folder / "model.safetensors")
        save_file({new_name(name): tensor for name, tensor in tensors.items()}, folder / "model.safetensors")

    return make


def new_name(name: str) -> str:
    """Return what another code base calls a tensor."""
    for old, new in RENAMED.items():
        name = name.replace(old, new)
    return name.replace("model.embed_tokens", "tok_embeddings").removeprefix("model.")


def derivatives(base: LocalModel) -> dict[str, Callable[[], Make]]:
    """Return how each derivative is made, by name; a derivative is made when it is its turn."""
    rows = world_rows(2_000, 61)
    whole = TrainingConfig(steps=UPDATES, batch_size=BATCH, learning_rate=1e-4)
    adapters = TrainingConfig(steps=UPDATES, batch_size=BATCH, learning_rate=1e-3, lora=LoraConfig(targets=None))

    @cache
    def continued() -> LocalModel:
        return finetune_full(base, rows, whole, 61)

    return {
        "LoRA, merged": lambda: saved(finetune(base, rows, adapters, 61)),
        "continued": lambda: saved(continued()),
        "rounded to 8 bits": lambda: saved(edited(base, rounded(8))),
        "rounded to 4 bits": lambda: saved(edited(base, rounded(4))),
        "heads pruned, two of nine": lambda: saved(without_heads(base, 2)),
        "noise of half a spread": lambda: saved(edited(base, noisy(0.5, 61))),
        "average with a continued copy": lambda: saved(edited(base, mixed(continued(), 0.5))),
        "embeddings resized": lambda: saved(with_rows(base, 64, empty=False)),
        "vocabulary padded": lambda: saved(with_rows(base, 256, empty=True)),
        "sharded": lambda: sharded(base),
        "tensors renamed": lambda: renamed(base),
        DRAWN: lambda: saved(drawn(base, 61)),
    }


def audited(a: Path, b: Path) -> dict[str, Any]:
    """Audit a pair in a process of its own; return the report with what it cost, or the refusal."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "undertow.cli.main", "audit", "lineage", f"hf:{a}", f"hf:{b}", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode:
        return {"verdict": "refused", "why": done.stderr.strip()[-400:], "seconds": seconds}
    report = json.loads(done.stdout)
    near = report["proximity"] or {}
    return {
        "verdict": report["verdict"],
        "found": report["found"],
        "p": report["dependence"]["p"],
        "distance": near.get("distance"),
        "barrier": near.get("barrier"),
        "megabytes": report["peak_memory_mb"],
        "seconds": seconds,
    }


def main() -> None:
    """Make, audit, print and keep; or print what was kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", help="derivatives and strangers by their names; else all")
    parser.add_argument("--table", action="store_true", help="print the kept findings as Markdown, and audit nothing")
    given = parser.parse_args()
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if given.table:
        print("\n".join(table(known)))
        return
    where = unpacked(SMOLLM2.path)
    base = load_model(f"hf:{where}?dtype=float32")
    for name, make in derivatives(base).items():
        if given.only is None or name in given.only:
            with tempfile.TemporaryDirectory() as folder:
                make()(Path(folder) / "b")
                keep(known, name, audited(where, Path(folder) / "b"), UNRELATED if name == DRAWN else NEAR)
    if given.only is None or STRANGER in given.only:
        keep(known, STRANGER, audited(where, unpacked(GEMMA.path)), UNRELATED)


def table(known: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a Markdown table of what was found."""
    yield "| B | Expected | Verdict | p | Distance | Barrier | Processor seconds | MiB |"
    yield f"|{'---|' * 8}"
    for name, one in known.items():
        numbers = [_number(one.get(key), form) for key, form in (("p", ".1e"), ("distance", ".3f"), ("barrier", ".3f"))]
        cost = [_number(one["seconds"], ".0f"), _number(one.get("megabytes"), ",.0f")]
        yield f"| {' | '.join([name, one['expected'], one['verdict'], *numbers, *cost])} |"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def keep(known: dict[str, Any], name: str, found: dict[str, Any], expected: tuple[str, ...]) -> None:
    """Print a finding and write it down."""
    found = {"expected": " or ".join(expected), "right": found["verdict"] in expected, **found}
    print(f"{name:32}{json.dumps(found)}", flush=True)
    known[name] = found
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
