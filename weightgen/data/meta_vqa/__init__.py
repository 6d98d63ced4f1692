"""Meta-VQA: from the official VQA v2 files to tasks."""
