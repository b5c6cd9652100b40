"""How much one workflow may be. What the server's own settings say besides is in settings.py."""

from __future__ import annotations

MAX_STEPS = 64  # of a whole workflow, those within others too
MAX_DEPTH = 8  # of steps within steps
MAX_ITEMS = 1000  # of a map
MAX_BEGUN = 10_000  # steps that one run does, each item of a map counted
MAX_CONCURRENCY = 64  # of a map
MAX_NESTING = 64  # of lists and objects within a workflow
MAX_VALUES = 100_000  # of a workflow that is given, of a result, and of what an expression reads: JSON of more keeps a server's loop
MAX_TEXTS = 50_000  # of one step, in what may have references
MAX_REFERENCES = 1000  # of one step
MAX_EXPRESSION = 2000  # characters
MAX_REQUEST = 64 << 20  # bytes of a workflow with its context, as JSON
MAX_RESULT = 4 << 20  # bytes of one step's result, as JSON
MAX_RESULTS = 32 << 20  # of all of a run
MAX_OUTPUTS = 8 << 20  # of what a run gives, and of what an expression reads
MAX_TEXT = 4 << 20  # characters of a text with values put in
MAX_ATTEMPTS = 10
MAX_WAIT_S = 300.0  # before another attempt
MAX_TIMEOUT_S = 86_400.0
