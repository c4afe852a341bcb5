"""Mitigations: keep what the rows teach, lose what they carry, and show that it worked."""
