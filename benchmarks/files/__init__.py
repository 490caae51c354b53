"""Graphs side by side, as fast as each other or not: what a change of the graph costs or saves."""
