"""Do two models share a base? Dependence of the weights, proximity of the weights, likeness of the behaviour."""
