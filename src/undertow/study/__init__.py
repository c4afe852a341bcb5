"""Studies: recipes as graphs of stages, run on one machine or many, and what comes out of them."""
