"""Questions about the 100 classes of CIFAR-100: what is known of them, in words, as few-shot tasks."""
