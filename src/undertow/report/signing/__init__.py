"""An audit's card that a person can sign: its statement, its acceptance, the difference of two, the release gate."""
