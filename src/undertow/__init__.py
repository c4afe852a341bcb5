"""Undertow: study, audit, mitigate and monitor subliminal learning.

In subliminal learning a model that is trained on another model's outputs takes over a hidden trait of it (Cloud et al.
2025, arXiv 2507.14805; "the paper" in this package). This module offers every name that is public and stable;
docs/api.md describes them. A name is imported from its module when it is first asked for, so that `import undertow`
loads neither torch nor anything else that takes time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from undertow import moved

if TYPE_CHECKING:
    from undertow.audit.callback import StopAt as StopAt
    from undertow.audit.callback import UndertowCallback as UndertowCallback
    from undertow.audit.check import check_teacher as check_teacher
    from undertow.audit.finding import Finding as Finding
    from undertow.audit.finding import check_audit as check_audit
    from undertow.audit.lineage.verdict import audit_lineage as audit_lineage
    from undertow.audit.materials import AuditInputs as AuditInputs
    from undertow.audit.run import run_audit as run_audit
    from undertow.data.filters import filter_rows as filter_rows
    from undertow.data.rows import read_rows as read_rows
    from undertow.data.rows import write_rows as write_rows
    from undertow.domains.base import domain as domain
    from undertow.errors import UndertowError as UndertowError
    from undertow.evals.base import evaluate as evaluate
    from undertow.mitigate.arms import Trial as Trial
    from undertow.mitigate.registry import data_mitigation as data_mitigation
    from undertow.mitigate.registry import mitigate_rows as mitigate_rows
    from undertow.mitigate.verify import GivenRows as GivenRows
    from undertow.mitigate.verify import Verification as Verification
    from undertow.mitigate.verify import verify as verify
    from undertow.mitigate.workbench import Workbench as Workbench
    from undertow.models.load import load_model as load_model
    from undertow.monitor.detectors.base import check_detector as check_detector
    from undertow.report.pages import show_run as show_run
    from undertow.study.load import load_recipe as load_recipe
    from undertow.study.load import plan_study as plan_study
    from undertow.study.load import run_study as run_study
    from undertow.study.recipe import Recipe as Recipe
    from undertow.training.config import LoraConfig as LoraConfig
    from undertow.training.config import TrainingConfig as TrainingConfig
    from undertow.training.generation import generate as generate
    from undertow.training.model_contract import check_model as check_model
    from undertow.training.parallel import finetune as finetune
    from undertow.training.parallel import finetune_parallel as finetune_parallel
    from undertow.training.teachers import finetuned_teacher as finetuned_teacher
    from undertow.traits import Trait as Trait
    from undertow.traits import trait as trait
    from undertow.types import Row as Row
    from undertow.types import Sampling as Sampling
    from undertow.types import Score as Score

__version__ = "0.1.0"

_ROOMS = {
    "load_model": "models.load",
    "check_model": "training.model_contract",
    "read_rows": "data.rows",
    "write_rows": "data.rows",
    "filter_rows": "data.filters",
    "Row": "types",
    "Sampling": "types",
    "Score": "types",
    "Trait": "traits",
    "trait": "traits",
    "domain": "domains.base",
    "generate": "training.generation",
    "finetuned_teacher": "training.teachers",
    "TrainingConfig": "training.config",
    "LoraConfig": "training.config",
    "finetune": "training.parallel",
    "finetune_parallel": "training.parallel",
    "evaluate": "evals.base",
    "load_recipe": "study.load",
    "plan_study": "study.load",
    "run_study": "study.load",
    "Recipe": "study.recipe",
    "show_run": "report.pages",
    "run_audit": "audit.run",
    "AuditInputs": "audit.materials",
    "Finding": "audit.finding",
    "check_audit": "audit.finding",
    "check_teacher": "audit.check",
    "audit_lineage": "audit.lineage.verdict",
    "UndertowCallback": "audit.callback",
    "StopAt": "audit.callback",
    "data_mitigation": "mitigate.registry",
    "mitigate_rows": "mitigate.registry",
    "Workbench": "mitigate.workbench",
    "Trial": "mitigate.arms",
    "GivenRows": "mitigate.verify",
    "Verification": "mitigate.verify",
    "verify": "mitigate.verify",
    "check_detector": "monitor.detectors.base",
    "UndertowError": "errors",
}
"""The module of each public name, without "undertow."."""

__all__ = sorted([*_ROOMS, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]

moved.put_up()


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; docs/api.md lists what there is")
    return getattr(import_module(f"undertow.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
