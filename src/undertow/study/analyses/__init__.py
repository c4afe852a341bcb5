"""Analyses: recipes that end in sentences, estimates and tables of their own, each behind one `base.Analysis`."""
