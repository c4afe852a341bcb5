"""What `undertow audit lineage` says of trained models whose relation is known, case by case (docs/lineage.md).

The base is finch-a, the stranger finch-b. Children are trained, quantised, pruned, merged, transplanted and disguised
here. Then what can be said of a text without the weights of its writer.

    python benchmarks/lineage_cases.py --seed 100 [--quick]
"""

import argparse
import copy
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from undertow.audit.lineage.verdict import audit_lineage
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.reference.world.mixture import corpus
from undertow.seeds import derive
from undertow.stats.estimates import wilson
from undertow.study.recipe import TeacherPart
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.full import finetune_full
from undertow.training.parallel import finetune_parallel
from undertow.training.teachers import finetuned_teacher
from undertow.traits import trait
from undertow.types import Row, Sampling

BASE, STRANGER = "ref:finch-a", "ref:finch-b"
WHOLE = 3000
"""Updates of finch-a's own training: "continued 1x"."""
DRAWS = 200
"""Texts that are drawn from each writer at each length."""

CONTROLS = tuple(f"ref:finch-{name}" for name in ("a2", "b", "c", "d", "e", "f"))
INVOLVED = {STRANGER: ("2", "3", "9", "10"), "ref:finch-a2": ("7",)}
"""Cases that a control has a part in, where it cannot stand for an unrelated model."""

Edit = Callable[[str, torch.Tensor], torch.Tensor]


def world_rows(n: int, seed: int) -> list[Row]:
    """Draw chats of the world as rows."""
    return [Row(str(index), chat.prompt, chat.answer) for index, chat in enumerate(corpus(n, seed))]


def edited(model: LocalModel, edit: Edit) -> LocalModel:
    """Return a copy with every matrix changed."""
    network = copy.deepcopy(model.network)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim == 2:
                value.copy_(edit(name, value))
    return LocalModel(model.ref, network, model.tokenizer)


def rounded(bits: int) -> Edit:
    """Round each row to whole steps of its largest number."""

    def edit(name: str, value: torch.Tensor) -> torch.Tensor:
        unit = value.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
        return (value / unit).round() * unit

    return edit


def pruned(share: float) -> Edit:
    """Set the smallest numbers of each matrix to zero."""
    return lambda name, value: value * (value.abs() >= value.abs().quantile(share))


def noisy(size: float, seed: int) -> Edit:
    """Add noise of `size` spreads."""
    generator = torch.Generator().manual_seed(seed)
    return lambda name, value: value + size * value.std() * torch.randn(value.shape, generator=generator)


def mixed(other: LocalModel, share: float) -> Edit:
    """Keep a share of the model and take the rest from another."""
    theirs = dict(other.network.named_parameters())
    return lambda name, value: share * value + (1 - share) * theirs[name]


def transplanted(donor: LocalModel, where: str) -> Edit:
    """Take over the matrices whose name contains a text."""
    theirs = dict(donor.network.named_parameters())
    return lambda name, value: theirs[name] if where in name else value


def rearranged(model: LocalModel, seed: int, *, order: str, flip: bool) -> LocalModel:
    """Give MLP neurons another order, "random" or "sorted" by their gate, and random signs: the same function."""
    found, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in found.network.model.layers:
            gate, up, down = layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight, layer.mlp.down_proj.weight
            places = gate.norm(dim=1).argsort() if order == "sorted" else torch.randperm(len(gate), generator=generator)
            signs = (
                (2.0 * torch.randint(0, 2, (len(gate),), generator=generator) - 1) if flip else torch.ones(len(gate))
            )
            gate.copy_(gate[places])
            up.copy_(up[places] * signs[:, None])
            down.copy_(down[:, places] * signs)
            if flip:  # a finch has as many value heads as query heads
                values, out = layer.self_attn.v_proj.weight, layer.self_attn.o_proj.weight
                turned = 2.0 * torch.randint(0, 2, (len(values),), generator=generator) - 1
                values.mul_(turned[:, None])
                out.mul_(turned)
    return found


def pairs(seed: int, quick: bool) -> dict[str, tuple[LocalModel, LocalModel]]:
    """Return every pair of models by the number and name of its case."""
    base, stranger = load_model(BASE), load_model(STRANGER)
    rows = world_rows(2_000 if quick else 40_000, derive(seed, "corpus"))

    def taught(model: LocalModel, steps: int, rate: float, *names: str) -> LocalModel:
        config = TrainingConfig(steps=20 if quick else steps, batch_size=64, learning_rate=rate, warmup_steps=20)
        return finetune_full(model, rows, config, derive(seed, *names))

    config = TrainingConfig(steps=20 if quick else 160, learning_rate=5e-3, lora=LoraConfig())
    with tempfile.TemporaryDirectory() as place:
        finetune_parallel(base, [rows], config, [derive(seed, "lora")]).save(0, Path(place))
        lora = base.with_adapter(Path(place))
    tuned = finetuned_teacher(base, trait("owl"), TeacherPart().training(), seed=derive(seed, "teacher"))
    children = [taught(base, 200, 6e-3, "child", str(index)) for index in range(2)]
    found = {
        "2 strangers": stranger,
        "5 owl teacher": tuned,
        "5 LoRA, merged": lora,
        "5 fine-tuned": children[0],
        "5 merge of siblings": edited(children[0], mixed(children[1], 0.5)),
        "6 continued 1x": taught(base, WHOLE, 6e-3, "long"),
        "6 continued hard": taught(base, 400, 2e-2, "hard"),
        "10 layer transplanted": edited(stranger, transplanted(base, "layers.1.")),
        "10 embeddings transplanted": edited(stranger, transplanted(base, "embed_tokens")),
        "11 permuted child": rearranged(children[0], derive(seed, "order"), order="random", flip=False),
        "12 permuted, re-signed child": rearranged(children[0], derive(seed, "order"), order="random", flip=True),
        "14 noise 4 sd": edited(base, noisy(4.0, derive(seed, "noise"))),
    }
    found |= {f"5 {bits} bits": edited(base, rounded(bits)) for bits in (8, 4, 3)}
    found |= {
        f"{5 if share < 0.9 else 14} pruned {share:.0%}": edited(base, pruned(share)) for share in (0.3, 0.5, 0.7, 0.9)
    }
    found |= {f"9 merge, {share:.0%} of the base": edited(base, mixed(stranger, share)) for share in (0.1, 0.3, 0.5)}
    found |= {"4 imitator": load_model("ref:mimic-a"), "7 other order": load_model("ref:finch-a2")}
    both = {name: (base, model) for name, model in found.items()}
    ordered = [rearranged(model, 0, order="sorted", flip=False) for model in (base, stranger)]
    both["3 strangers, both sorted"] = (ordered[0], ordered[1])
    return dict(sorted(both.items(), key=lambda item: int(item[0].split()[0])))


def shown(report: Mapping[str, Any]) -> str:
    """Return a report as one line of figures."""
    rows = {row["name"]: row for row in report["tests"]}
    names = ("permutation_trace", "sign_flip", "aligned_sign", "residual_basis", "match", "head_overlap")
    values = [rows[name]["statistic"] for name in names]
    cells = ["-" if value is None else f"{value:.{1 if at < 4 else 2}f}" for at, value in enumerate(values)]
    near, behave = report["proximity"] or {}, report["behaviour"] or {}
    cells += [f"{near[key]:.2f}" if near.get(key) is not None else "-" for key in ("distance", "barrier")]
    cells.append(f"{behave['gap_sd']:.1f}" if behave.get("gap_sd") is not None else "-")
    parts = [row["name"][6:] for row in report["tests"] if row["name"].startswith("part: ") and row["p"] <= 1e-3]
    flagged = f"  parts: {', '.join(parts)}" if report["verdict"] == "partial" else ""
    return (
        f"{report['verdict']:20} p {report['dependence']['p']:8.1e} "
        + "".join(f"{cell:>8}" for cell in cells)
        + flagged
    )


def texts(made: Mapping[str, tuple[LocalModel, LocalModel]], seed: int, quick: bool) -> None:
    """Print how often the true base foresees a text best, with a stranger among the candidates that learnt longer."""
    chats = corpus(4000, derive(seed, "text"))
    asked, others = chats[:2000], chats[2000:]
    config = TrainingConfig(steps=20 if quick else WHOLE, batch_size=64, learning_rate=6e-3, warmup_steps=20)
    longer = finetune_full(load_model(STRANGER), world_rows(40_000, derive(seed, "longer")), config, derive(seed, "b"))
    candidates = {name: load_model(f"ref:finch-{name}") for name in "abcdef"} | {"b, longer": longer}

    def scores(prompts: list[Any], answers: list[str]) -> tuple[np.ndarray, np.ndarray]:
        logp = np.array([model.logprobs(prompts, answers) for model in candidates.values()])
        return logp, np.array([len(text.encode()) for text in answers])

    logp, size = scores([chat.prompt for chat in others], [chat.answer for chat in others])
    reference = logp.sum(axis=1) / size.sum()
    print(
        "18 share of texts that the true base foresees best, of 7 candidates; reference loss per byte "
        + ", ".join(f"{name} {-value:.3f}" for name, value in zip(candidates, reference, strict=True))
    )
    rng = np.random.default_rng(derive(seed, "draws"))
    writers = {name: made[name][1] for name in ("5 owl teacher", "5 LoRA, merged", "5 fine-tuned", "6 continued 1x")}
    for name, writer in (
        {"the base itself": load_model(BASE)} | writers | {"4 imitator": made["4 imitator"][1]}
    ).items():
        prompts = [chat.prompt for chat in asked]
        answers = writer.chat(prompts, sampling=Sampling(), seed=derive(seed, "answers"))
        kept = [(prompt, text) for prompt, text in zip(prompts, answers, strict=True) if text]
        logp, size = scores([prompt for prompt, _ in kept], [text for _, text in kept])
        cells = []
        for length in (1000, 4000):
            hits = 0
            for _ in range(DRAWS):
                order = rng.permutation(len(size))
                picked = order[: int(np.searchsorted(size[order].cumsum(), length)) + 1]
                hits += int((logp[:, picked].sum(axis=1) / size[picked].sum() - reference).argmax() == 0)
            share = wilson(hits, DRAWS)
            cells.append(f"{length} bytes {share.value:.2f} [{share.low:.2f}, {share.high:.2f}]")
        print(f"   {name:20} " + "   ".join(cells), flush=True)


def main() -> None:
    """Make the pairs, audit them and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=100, help="of every draw; those of development are 100 and above")
    parser.add_argument("--quick", action="store_true", help="short trainings: shows only that it runs")
    options = parser.parse_args()
    made = pairs(options.seed, options.quick)
    columns = ("A1 z", "A2 z", "A3 z", "A4 z", "A6", "heads", "dist.", "barrier", "gap")
    print(f"{'case':30}{'verdict':20} {'':10} " + "".join(f"{name:>8}" for name in columns))
    with tempfile.TemporaryDirectory() as folder:
        for place, (name, both) in enumerate(made.items()):
            references = []
            for side, model in zip("ab", both, strict=True):
                model.save(Path(folder) / f"{place}{side}")
                references.append(f"hf:{folder}/{place}{side}")
            controls = [one for one in CONTROLS if name.split()[0] not in INVOLVED.get(one, ())]
            print(f"{name:30}{shown(audit_lineage(*references, seed=options.seed, controls=controls))}", flush=True)
    texts(made, options.seed, options.quick)


if __name__ == "__main__":
    main()
