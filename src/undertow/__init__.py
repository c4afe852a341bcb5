"""Undertow: study, audit, mitigate and monitor subliminal learning."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undertow.audit.callback import StopAt, UndertowCallback

__version__ = "0.1.0"
__all__ = ["StopAt", "UndertowCallback", "__version__"]


def __getattr__(name: str) -> Any:
    """Load what needs torch and transformers when it is first asked for."""
    if name in ("StopAt", "UndertowCallback"):
        from undertow.audit import callback

        return getattr(callback, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
