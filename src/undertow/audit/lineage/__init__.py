"""Do two models share a base? Tests of their weights, the distance of their weights, likeness of their behaviour."""
