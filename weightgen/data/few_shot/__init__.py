"""Few-shot images: arrays on disk, and episodes drawn from them."""
