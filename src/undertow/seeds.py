"""Independent random seeds, derived from the one seed of a run."""

from undertow.store.fingerprints import canonical_json, sha256


def derive(seed: int, *names: str | int) -> int:
    """Return the seed of one random draw, an integer in [0, 2**31).

    Draws of different names are independent, and adding a draw changes no other one, unlike `seed + 1`, `seed + 2` and
    so on.

    Args:
        seed: seed of the whole run.
        names: what is drawn, such as ("rows", replicate); equal names give equal seeds.
    """
    return int(sha256(canonical_json([seed, *names]))[:16], 16) % 2**31
