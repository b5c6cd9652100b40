"""The native layer, on real models."""
