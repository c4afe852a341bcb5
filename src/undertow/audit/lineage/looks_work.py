"""How long finding the base among the known ones takes, estimated before a weight is read."""

from undertow.audit.lineage.candidates import ModelAndBase
from undertow.audit.lineage.fingerprints import fingerprint_key, known_digest
from undertow.audit.lineage.looks import OriginQuestion
from undertow.types import Work

READ_S, FINGERPRINT_S = 0.05, 1e-8
"""Seconds of making the fingerprint of any model with the hash of its files, and further seconds for each of its
numbers."""

PAIR_S, COMPARED_S = 0.12, 5e-8
"""Seconds of comparing all weights of any two models, and further seconds for each number of both."""


def looks_work(asked: OriginQuestion) -> list[Work]:
    """Return what will be read and about how many seconds that takes; what the store has takes no time.

    The seconds of the last step are those of comparing every base, which is done if no fingerprint agrees.

    Args:
        asked: the model and the known bases, with their headers read.

    Raises:
        UserError: the store cannot be read.
    """
    bases = asked.comparable
    if not bases:
        return [Work(f"headers: none of {_models(len(asked.candidates))} has a matrix of the model's shape", 0.0)]
    sizes = {asked.model: asked.weights.parameters} | {one.known.reference: one.parameters for one in bases}
    digests = {name: known_digest(name, asked.store) for name in sizes}
    missing = [name for name, digest in digests.items() if digest is None or not _kept(asked, digest)]
    new = [one.known.reference for one in bases if not _compared(asked, one.known.reference, digests)]
    own, other = sizes[asked.model], len(asked.candidates) - len(bases)
    left = f"; {_models(other)} of another shape left out by their headers" if other else ""
    reading = sum(READ_S + FINGERPRINT_S * sizes[name] for name in missing)
    comparing = sum(PAIR_S + COMPARED_S * (own + sizes[name]) for name in new)
    told = f"fingerprints of {_models(len(sizes))}, {len(sizes) - len(missing)} from the store{left}"
    last = f"all weights beside those of {_bases(len(bases))} at most, {len(bases) - len(new)} from the store"
    which = "the bases whose fingerprints agree, or every base if none does"
    return [Work(told, reading), Work(f"{last}: {which}", comparing)]


def _kept(asked: OriginQuestion, digest: str) -> bool:
    return fingerprint_key(digest).folder(asked.store).is_dir()


def _compared(asked: OriginQuestion, base: str, digests: dict[str, str | None]) -> bool:
    mine, its = digests[asked.model], digests[base]
    if mine is None or its is None:
        return False
    pair = ModelAndBase(model=asked.model, base=base, model_digest=mine, base_digest=its, seed=asked.seed)
    return pair.key.folder(asked.store).is_dir()


def _models(n: int) -> str:
    return f"{n} model" + ("" if n == 1 else "s")


def _bases(n: int) -> str:
    return f"{n} base" + ("" if n == 1 else "s")
