"""The theory of subliminal learning, checked by computation."""
