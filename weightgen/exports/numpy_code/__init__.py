"""Networks as formulas in NumPy: files that `write_numpy` copies beside the weights. None imports weightgen or torch."""
