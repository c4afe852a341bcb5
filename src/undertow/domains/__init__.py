"""Domains: the unrelated task families in which a teacher writes rows; one file each."""
