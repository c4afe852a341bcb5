"""The commands that filter and convert rows, and that publish folders on the Hub."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from undertow.cli.options import Json, Passing, Rows, SkipBad, quoted, refuse_replacing, tell
from undertow.data.filters import Tally, domain_rule, mention_rule, require_kept, sift
from undertow.data.row_files import Put, Shape, open_sink
from undertow.domains.base import AbstractDomain, parse_domain
from undertow.errors import ConfigError, EmptyDataError
from undertow.traits import Trait, chosen_traits
from undertow.types import Row

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an output that exists already. By default it is an error.")
]


def filter_command(
    rows: Rows,
    out: Annotated[Path, typer.Argument(help="Row file for the rows that are kept.")],
    dropped: Annotated[
        Path | None, typer.Option(help="Row file for the dropped rows, with the reasons. Not written if not given.")
    ] = None,
    domain: Annotated[
        str,
        typer.Option(
            help="Domain whose rule decides which rows are valid, perhaps with settings, such as cot:checked=false "
            "(see `undertow list domains`)."
        ),
    ] = "numbers",
    ban: Annotated[
        bool,
        typer.Option(
            "--ban",
            help="Also drop rows with one of the 34 numbers of bad repute that Cloud et al. excluded, such as 666.",
        ),
    ] = False,
    mentions: Annotated[
        list[str],
        typer.Option(
            help="Also drop rows that name this trait, or one of this pack or file. May be given several times."
        ),
    ] = [],  # noqa: B006
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Keep the rows that are valid in their domain, with their further keys."""
    refuse_replacing(out, rows)
    if dropped is not None:
        refuse_replacing(dropped, rows, out)
    rules = domain_rule(_judging(domain, ban)), mention_rule(_named(mentions))
    given, tally = Passing(rows, skip_bad, more=True), Tally()
    sifted = ((judged, more) for row, more in given for judged in sift([row], *rules))
    with _sink(dropped) as put_dropped:
        empty = _keep(out, sifted, tally, put_dropped)
    if empty is not None:
        raise empty
    found = {"rows": str(out), **tally.report.to_json(), "bad_lines": given.bad}
    tell(found, as_json, f"undertow train {quoted(out)} students")


def _judging(text: str, ban: bool) -> AbstractDomain:
    """Return the domain that judges rows; of numbers, with the numbers of bad repute banned too if `ban` says so."""
    from undertow.domains.numbers import BANNED, Numbers

    domain = parse_domain(text)
    if not ban:
        return domain
    if not isinstance(domain, Numbers):
        raise ConfigError("Only the domain numbers has banned numbers.", f"--domain {text} --ban", "Leave --ban out.")
    return replace(domain, banned=tuple(dict.fromkeys((*domain.banned, *BANNED))))


def _named(mentions: list[str]) -> tuple[Trait, ...]:
    """Return the traits whose words are looked for; a trait without words is refused, since it would drop nothing."""
    traits = chosen_traits(mentions)
    if wordless := [one.name for one in traits if not one.aliases]:
        fix = "Name traits that words name; `undertow audit data` looks for the others."
        raise ConfigError("A filter finds words, and no word names this trait.", ", ".join(wordless), fix)
    return traits


def _sink(path: Path | None) -> AbstractContextManager[Put]:
    """Open the file of the dropped rows, or a sink that forgets them."""
    return nullcontext(_nowhere) if path is None else open_sink(path, distinct=True)


def _nowhere(row: Row, more: Mapping[str, Any] = {}, /) -> None:
    """Take a row and do nothing with it."""


def _keep(
    out: Path, rows: Iterable[tuple[Row, Mapping[str, Any]]], tally: Tally, put_dropped: Put
) -> EmptyDataError | None:
    """Write the rows that have no reject reason, and hand the others on. Return the error if no row is kept."""
    try:
        with open_sink(out, distinct=True) as put:
            for row, more in rows:
                tally.add(row)
                (put_dropped if row.reasons else put)(row, more)
            require_kept(tally.report)
    except EmptyDataError as error:  # the dropped rows are written all the same: they say why
        return error
    return None


def convert_command(
    rows: Rows,
    out: Annotated[
        Path,
        typer.Argument(
            help="File to write; its suffix decides the format: .jsonl, .parquet, or none for a folder of datasets."
        ),
    ],
    shape: Annotated[
        Shape | None,
        typer.Option(
            help="Layout of a row: prompt and completion as text or as chat turns, or one list of messages. If "
            "not given, the simplest that fits."
        ),
    ] = None,
    overwrite: Overwrite = False,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Write rows in another file format or layout.

    Ids and further keys of the rows are kept.
    """
    if out.exists() and not overwrite:
        raise ConfigError("There is something of this name already.", out, "Give another name, or --overwrite.")
    refuse_replacing(out, rows)
    given, keys = Passing(rows, skip_bad, more=True), set[str]()
    with open_sink(out, shape, distinct=True) as put:
        for row, more in given:
            put(row, more)
            keys.update(more)
        if not given.rows:
            raise EmptyDataError("There are no rows to write.", f"{rows}: 0 rows", "Give a file with rows.")
    found = {"rows": str(out), "written": given.rows, "bad_lines": given.bad, "further_keys": sorted(keys)}
    tell(found, as_json, f"undertow audit data {quoted(out)} --base MODEL")


def publish_command(
    folder: Annotated[
        Path, typer.Argument(help="Folder to publish: a run, a stored result, an adapter, a model, or row files.")
    ],
    repo: Annotated[str, typer.Argument(help="Repository on the Hugging Face Hub: OWNER/NAME.")],
    push: Annotated[
        bool,
        typer.Option(
            "--push/--card-only",
            help="With --push the folder and its card are uploaded (HF_TOKEN has to be set). By default only the "
            "card is written.",
        ),
    ] = False,
    licence: Annotated[str | None, typer.Option("--license", help="The Hub's id of the licence, such as mit.")] = None,
    datasets: Annotated[
        list[str],
        typer.Option(
            "--dataset",
            help="Repository on the Hub of rows on which the model was trained. May be given several times.",
        ),
    ] = [],  # noqa: B006
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public. By default it is private.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write the card of a dataset or model, and upload both.

    Without --push only the card is written. With it, folder and card are sent to the Hugging Face Hub.
    """
    from undertow.data.cards import describe, push_folder, write_card

    card = describe(folder, repo, licence=licence, datasets=datasets)
    path = write_card(card, overwrite=overwrite, keep=push)
    url = push_folder(card, public=public) if push else None
    found = {"card": str(path), "type": card.kind, "files": len(card.files), "pushed": url}
    tell(found, as_json, f"look at {url}" if push else f"read the card, then undertow publish {folder} {repo} --push")
