"""Features: embeddings of the images and texts of a data set, on disk."""
