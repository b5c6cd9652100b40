"""Tests of the tools and the registry."""
