"""Audits of rows: who may have written them."""
