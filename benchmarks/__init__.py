"""Measure engines side by side on what the pipeline has built. Imports artifact, and of the stages verify alone."""
