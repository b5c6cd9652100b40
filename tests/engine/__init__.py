"""The engine, on real models and on exact stand-ins of the memory."""
