"""Model files: what is in them, where they are, how they get here."""
