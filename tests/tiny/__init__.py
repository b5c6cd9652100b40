"""Tiny models, written by the tests: random weights, real architectures, real tokenizers."""
