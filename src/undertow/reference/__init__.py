"""How the embedded reference families are made: the synthetic world, the tokenizer and the build command."""
