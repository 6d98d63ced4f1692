"""Encoders: frozen CLIP towers (text and images to embeddings) and encoders of weights."""
