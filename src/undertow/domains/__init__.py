"""Domains: families of tasks that have nothing to do with a trait, in which teachers write rows; one file each."""
