"""Measure engines side by side on what the pipeline has built. Imports artifact, and the judge's formulas of verify."""
