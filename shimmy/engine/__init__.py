"""Continuous batching over one context: no HTTP, no JSON, no files."""
