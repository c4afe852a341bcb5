"""The synthetic world: the generator of the corpus that the embedded models are trained on."""
