"""The tokenizer and the chat template that an adapter's folder may bring, as trainers save them beside it."""

import copy
import json
from pathlib import Path
from typing import Any

from undertow.errors import ModelError
from undertow.models.adapter_files import AdapterFiles
from undertow.models.chat_template import say_once
from undertow.models.given_templates import check_syntax, set_template

TEMPLATE = "chat_template.jinja"
_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


def own_tokenizer(base: Any, adapter: AdapterFiles, rows: int | None, *, keep_template: bool = False) -> Any:
    """Return the tokenizer of a model with this adapter: the adapter's own, or else the base's.

    A chat template that differs from the base's is logged once. An adapter without a template is used with the base's.

    Args:
        base: tokenizer of the base, which is not changed; None if the model has no tokenizer, and then None is
            returned.
        adapter: content of the adapter's folder.
        rows: number of rows of the model's embeddings, the adapter's included; None if it is not known.
        keep_template: whether the base's template was chosen by the user, and so is kept instead of the adapter's.

    Raises:
        ModelError: the adapter's tokenizer gives the base's tokens other ids or has more than the model, or its
            template is not valid Jinja.
    """
    if base is None:
        return None
    folder, brought = adapter.folder, _brought(base, adapter, rows)
    if brought is None:
        return base
    if keep_template or brought.chat_template is None:
        brought.chat_template = base.chat_template
        return brought
    check_syntax(brought, folder)
    if brought.chat_template != base.chat_template:
        instead = "the base has none" if base.chat_template is None else "not the base's, which differs"
        say_once(f"The adapter {folder} brings a chat template of its own: that one is used ({instead}).")
    return brought


def _brought(base: Any, adapter: AdapterFiles, rows: int | None) -> Any:
    """Return the tokenizer of the folder, or the base's with the adapter's template; None if the folder has neither."""
    folder, noted = adapter.folder, adapter.notes.get("template")
    if any((folder / name).exists() for name in _FILES):
        found = _load(folder)
        _check_same(base, found, folder, rows)
        return found
    if noted is None and not (folder / TEMPLATE).exists():
        return None
    changed = copy.deepcopy(base)
    set_template(changed, noted or str(folder / TEMPLATE))
    return changed


def _load(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # a folder with some files of a tokenizer ends in any exception
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        fix = "Complete the tokenizer's files in the adapter's folder, or remove them all to use the base's."
        raise ModelError("The adapter's tokenizer cannot be loaded.", f"{folder}: {reason}", fix) from error


def _check_same(base: Any, found: Any, folder: Path, rows: int | None) -> None:
    """Refuse a tokenizer that gives the base's tokens other ids, or ids beyond the rows of the embeddings."""
    fix = "Give the adapter's own base, or remove the tokenizer's files from its folder to use the base's."
    known, own = _core(base), _core(found)
    if known != own:
        token = next(iter(sorted(known.items() ^ own.items())))[0]
        value = f"{folder}: {len(own)} tokens, {len(known)} in the base; {token!r} differs"
        raise ModelError("The adapter's tokenizer has another vocabulary than the base's.", value, fix)
    limit, had = rows if rows is not None else len(base), base.get_vocab()
    beyond = sorted(token for token, at in found.get_vocab().items() if at >= limit and had.get(token) != at)
    if beyond:
        value = f"{folder}: {', '.join(map(repr, beyond[:3]))}; the embeddings have {limit} rows"
        raise ModelError("The adapter's tokenizer has tokens that the model lacks.", value, fix)
    if _rules(base) != _rules(found):
        say_once(f"The tokenizer of the adapter {folder} splits text otherwise than the base's: the adapter's is used.")


def _core(tokenizer: Any) -> dict[str, int]:
    """Return the vocabulary without the tokens that were added to it later."""
    return dict(tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False))


def _rules(tokenizer: Any) -> dict[str, Any]:
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    return {name: whole.get(name) for name in ("normalizer", "pre_tokenizer", "model")}
