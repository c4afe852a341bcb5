"""The commands that turn a constitution, rules written in words, into a classifier."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import undertow
from undertow.cli.canaries import monitor
from undertow.cli.monitoring import needs_client
from undertow.cli.options import Json, prepare, show
from undertow.errors import ConfigError
from undertow.seeds import derive
from undertow.store.disk import write_file
from undertow.types import Prompt, Sampling

if TYPE_CHECKING:
    from undertow.monitor.constitution import AskPrompts
    from undertow.monitor.detectors.constitution import HeldOut


@monitor.command("examples")
def examples_command(
    draft: Annotated[Path, typer.Argument(help="YAML file with the rules, in words (docs/constitution.md).")],
    out: Annotated[Path, typer.Argument(help="YAML file to write: the rules with their examples.")],
    model: Annotated[
        str,
        typer.Option(
            help="The model that writes the examples: its name at the endpoint, or ref:NAME or hf:PATH_OR_ID."
        ),
    ],
    endpoint: Annotated[
        str | None,
        typer.Option(help="URL of the OpenAI-compatible server of --model. Leave it out for a ref: or hf: model."),
    ] = None,
    each: Annotated[
        int,
        typer.Option(
            min=1, help="Texts to write for each rule that break it, and as many that come close without breaking it."
        ),
    ] = 60,
    ordinary: Annotated[int, typer.Option(min=0, help="Ordinary harmless texts to write.")] = 400,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest text in tokens.")] = 200,
    seed: Annotated[int, typer.Option(help="Random seed of a ref: or hf: model's texts.")] = 0,
) -> None:
    """Let a model write examples for each rule of a constitution.

    Take a model of another family than the one that is to be guarded.
    """
    import yaml

    from undertow.monitor.constitution import read_draft, write_examples

    rules = read_draft(draft)
    local = model.startswith(("ref:", "hf:"))
    if local == (endpoint is not None):
        raise ConfigError(
            "The model is either local or behind an endpoint.", model, "Give --endpoint URL, or ref:/hf:."
        )
    ask = _local(model, max_tokens, seed) if endpoint is None else _remote(endpoint, model, max_tokens)
    found = write_examples(rules, ask, each=each, ordinary=ordinary)
    if "labelled" in found:
        found["labelled"] = os.path.relpath(found["labelled"], out.parent)
    write_file(out, yaml.safe_dump(found, allow_unicode=True, sort_keys=False, width=120))
    for rule in found["rules"]:
        print(f"{rule['name']}: {len(rule['examples'])} examples")
    print(f"allowed: {len(found['allowed'])} texts; read both kinds before you rely on them")
    print(f"next: undertow monitor constitution {out}")


def _local(model: str, max_tokens: int, seed: int) -> "AskPrompts":
    """Return a function that lets a model of this machine answer prompts."""
    prepare()
    loaded, sampling, calls = undertow.load_model(model), Sampling(max_new_tokens=max_tokens), count()

    def ask(prompts: list[Prompt]) -> list[str]:
        return loaded.chat(prompts, sampling=sampling, seed=derive(seed, "texts", next(calls)))

    return ask


def _remote(endpoint: str, model: str, max_tokens: int) -> "AskPrompts":
    """Return a function that lets a model behind a server answer prompts."""
    needs_client()
    from undertow.monitor.baseline import DeployedModel

    target = DeployedModel(endpoint, model, max_tokens)

    def ask(prompts: list[Prompt]) -> list[str]:
        with typer.progressbar(length=len(prompts), label="asking", file=sys.stderr) as bar:
            return target.ask(prompts, lambda: bar.update(1))

    return ask


@monitor.command("constitution")
def constitution_command(
    path: Annotated[
        Path, typer.Argument(help="YAML file with rules, examples and allowed texts, as `monitor examples` writes it.")
    ],
    rate: Annotated[
        float, typer.Option(help="Share of allowed texts that may be flagged; it sets the classifier's threshold.")
    ] = 0.01,
    seed: Annotated[int, typer.Option(help="Random seed of the split into training and held-out texts.")] = 0,
    as_json: Json = False,
) -> None:
    """Train the classifier of a constitution, and test it.

    Prints the shares of held-out texts that it flags, of allowed texts and for each rule.
    """
    from undertow.monitor.constitution import read_constitution
    from undertow.monitor.detectors.constitution import ConstitutionDetector

    found = ConstitutionDetector(read_constitution(path), rate, seed).held_out
    following = f"next: undertow monitor serve --upstream URL --detector constitution:{path}@{rate:g}"
    show({"schema": "undertow.constitution/1", **asdict(found)}, as_json, [*_rates(found), following])


def _rates(found: "HeldOut") -> Iterator[str]:
    for name, one in {"allowed texts": found.false_positives, **found.found}.items():
        yield f"{name:24} flagged {one.value:.3f} [{one.low:.3f}, {one.high:.3f}], n = {one.n}"


@monitor.command("flagged")
def flagged_command(
    events: Annotated[Path, typer.Argument(help="Database that `undertow monitor serve --keep-text` wrote.")],
    out: Annotated[Path, typer.Argument(help="JSONL file to write, with one text a line for a person to label.")],
) -> None:
    """Write flagged texts to a file for a person to label.

    Added to the constitution, the labelled file improves the classifier.
    """
    from undertow.monitor.constitution import flagged_texts

    found = flagged_texts(events)
    write_file(out, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found))
    print(f"{out}: {len(found)} texts; set each label to a rule's name or to allowed")
    print(f"next: add `labelled: {out.name}` to the constitution and start the proxy again")
