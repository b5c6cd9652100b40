"""A worker process, seen from the front end."""
