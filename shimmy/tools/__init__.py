"""Tools: plain annotated functions that a client, a model or a workflow may call; docs/tools.md says how one is written."""
