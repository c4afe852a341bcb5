"""The sentence of what was found, and the one of what would have been."""

import numpy as np
import pytest

from undertow.audit.lineage.tests import fair_signs
from undertow.audit.lineage.verdict import audit_lineage


def test_agreement_is_told_as_found_and_not_as_a_limit(nets, write):
    report = audit_lineage(write("a", nets.draw(0)), write("b", nets.moved(nets.draw(0), 9, 0.1)))
    assert report["verdict"] == "same_lineage_near"
    found = report["found"]
    assert found.startswith("units in place agree (sign_flip, mean cosine 0.99")
    assert f"p over all tests {report['dependence']['p']:.2g}" in found
    assert f"relative distance {report['proximity']['distance']:.2g}" in found
    assert "would" not in found
    assert "would have given z = 5" in report["detectable"]


def test_silence_is_told_as_silence(nets, write):
    report = audit_lineage(write("a", nets.draw(0)), write("b", nets.draw(1)))
    assert report["verdict"] == "no_evidence"
    assert report["found"].startswith("units in place agree no more than by chance (sign_flip, mean cosine ")


def test_a_shared_part_is_named(nets, write):
    base, stranger = nets.draw(0), nets.draw(1)
    mixed = stranger | {name: value for name, value in base.items() if ".layers.1." in name}
    report = audit_lineage(write("a", base), write("b", mixed))
    assert report["verdict"] == "partial"
    assert "shared: layer 1 mlp, layer 1 attention" in report["found"]


def test_nothing_compared_is_told_so(nets, write):
    wide = {name: np.tile(value, (1, 2) if value.ndim == 2 else 2) for name, value in nets.draw(0).items()}
    report = audit_lineage(write("a", nets.draw(0)), write("b", wide))
    assert report["verdict"] == "inconclusive"
    assert report["found"] == "nothing was compared"
    assert report["detectable"].startswith("nothing")


@pytest.mark.parametrize("mean", [0.0, 0.3, 1.0])
def test_the_detectable_mean_is_the_one_that_gives_z_five(mean):
    """Of equal models all cosines are 1; their spread is 0, and still a smaller mean would have gone unseen."""
    values = mean + (1 - mean) * 0.1 * np.random.default_rng(0).normal(size=400)
    item = fair_signs([values])
    assert item is not None
    assert item.effect / item.detectable == pytest.approx(item.z / 5)
    # The pattern of signs whose mean is the detectable one reaches z = 5.
    assert item.detectable * len(values) / np.sqrt(values @ values) == pytest.approx(5)
