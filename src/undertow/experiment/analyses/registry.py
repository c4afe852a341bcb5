"""Every analysis by name."""

from collections.abc import Mapping

from undertow.experiment.analyses.base import Analysis
from undertow.experiment.analyses.digits import DIGITS
from undertow.experiment.analyses.meaning import MEANING
from undertow.experiment.analyses.mechanism import MECHANISM
from undertow.experiment.analyses.theorem import THEOREM

ANALYSES: Mapping[str, Analysis] = {one.name: one for one in (THEOREM, DIGITS, MEANING, MECHANISM)}
"""`theorem`: theorem 1 on random networks; `digits`: digits through auxiliary logits; `meaning`: what detectors and
readers find in the rows; `mechanism`: how students move inside."""
