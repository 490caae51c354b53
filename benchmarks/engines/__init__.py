"""Hold one folder for each engine; a folder's name is the engine's (benchmarks/engine.py: `Engine`)."""
