"""Data sets: from their official files to tasks."""
