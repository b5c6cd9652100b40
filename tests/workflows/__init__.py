"""Tests of workflows, beside those of their routes in tests/api."""
