"""A process for each loaded model, and the front end's side of it."""
