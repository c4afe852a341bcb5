"""A card that a person can sign: its statement, its acceptance, the difference between two, the release gate."""
