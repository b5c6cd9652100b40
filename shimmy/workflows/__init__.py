"""Workflows: several calls of models and tools as one request; docs/workflows.md says how one is written."""
