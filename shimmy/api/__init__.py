"""HTTP: one file a protocol or a topic, each with its ROUTES; routes.py finds them."""
