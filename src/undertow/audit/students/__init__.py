"""Audits of students: how they differ from placebos, students that were trained alike on rows without a trait."""
