"""Independent seeds from one."""

from undertow.store.fingerprints import canonical_json, sha256


def derive(seed: int, *names: str | int) -> int:
    """Return the seed of one random draw, a number in [0, 2**31).

    Draws of different names are independent, and adding one changes no other: unlike `seed + 1`, `seed + 2`, ...

    Args:
        seed: of the whole run.
        names: what is drawn, such as ("rows", replicate).
    """
    return int(sha256(canonical_json([seed, *names]))[:16], 16) % 2**31
