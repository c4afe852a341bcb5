"""A null and a trail as plain data: thinned, rounded, and still what the verdict was judged by."""

import json

import numpy as np
import pytest

from undertow.audit.evidence import MOST, NullSample, Trail
from undertow.audit.finding import Finding
from undertow.errors import ConfigError


def sample(values, observed=(1.0,), bound=0.5) -> NullSample:
    return NullSample(values=tuple(values), observed=observed, bound=bound, unit="SDs")


def test_few_values_are_all_written_in_order() -> None:
    found = sample([0.123456, -2.0, 1e-9 / 3]).to_json()
    assert found == {
        "values": [-2.0, 3.333e-10, 0.1235],
        "n": 3,
        "observed": [1.0],
        "bound": 0.5,
        "unit": "SDs",
    }


def test_many_values_keep_their_ends_and_their_shape() -> None:
    values = np.random.default_rng(0).normal(size=9999)
    found = sample(values).to_json()
    assert (len(found["values"]), found["n"]) == (MOST, 9999)
    assert found["values"][0] == pytest.approx(values.min(), rel=1e-3)
    assert found["values"][-1] == pytest.approx(values.max(), rel=1e-3)
    assert np.quantile(found["values"], 0.9) == pytest.approx(np.quantile(values, 0.9), abs=0.03)


def test_a_trail_keeps_its_first_last_and_largest_row() -> None:
    values = np.zeros(5001)
    values[[1234, 5000]] = 3.0, 2.0
    found = Trail(values=tuple(values), bound=3.0, unit="evidence").to_json()
    assert (found["rows"][0], found["rows"][-1], found["values"][-1]) == (1, 5001, 2.0)
    assert dict(zip(found["rows"], found["values"], strict=True))[1235] == 3.0
    assert len(found["rows"]) <= MOST + 1


def test_a_finding_writes_both_and_nothing_where_there_is_none() -> None:
    found = Finding(
        stage="a", claim="provenance", null_sample=sample([1.0]), trail=Trail(values=(1.0,), bound=2.0, unit="e")
    )
    written = json.loads(json.dumps(found.to_json()))
    assert written["null_sample"]["values"] == written["trail"]["values"] == [1.0]
    bare = Finding(stage="a", claim="provenance").to_json()
    assert (bare["null_sample"], bare["trail"]) == (None, None)


def test_what_is_empty_is_refused() -> None:
    with pytest.raises(ConfigError, match="A null needs values"):
        sample([])
    with pytest.raises(ConfigError, match="A null needs values"):
        sample([1.0], observed=())
    with pytest.raises(ConfigError, match="A trail needs values"):
        Trail(values=(), bound=1.0, unit="e")
