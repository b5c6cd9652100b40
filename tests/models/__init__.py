"""Tests of shimmy.models."""
