"""How the embedded reference models are made: the synthetic world, the tokenizer and the build command."""
