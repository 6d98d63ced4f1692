"""Tables, figures, timings and stages of results. For recipes only."""
