"""Models behind one contract: embedded reference models, Hugging Face models, and models behind a server."""
