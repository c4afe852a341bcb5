"""Undertow: study, audit, mitigate and monitor subliminal learning."""

__version__ = "0.1.0"
