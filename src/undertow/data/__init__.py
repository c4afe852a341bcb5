"""Rows: reading and writing them in every format, filtering them, and the cards that describe them."""
