"""Audits of students: how they differ from placebos, which no trait has reached."""
