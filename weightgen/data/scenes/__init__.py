"""Scenes: a synthetic visual question answering world, rendered and asked about by this package.

Read in this order: `world` (what a scene is), `render` (scene → image), `questions` (scene → question and answer),
`captions` (scene → caption, for training a small CLIP), `vqa_files` (all of it in the official VQA v2 layout).
"""
