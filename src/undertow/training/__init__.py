"""Training: teachers, the rows that they write, and students of these rows; here, by TRL, or at a service."""
