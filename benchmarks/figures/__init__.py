"""One module per topic; a figure is a number with a goal, made by a function that `TOPICS` in run.py names."""
