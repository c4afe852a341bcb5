"""Audits: does this data, teacher or student carry something it should not? One file for each stage."""
