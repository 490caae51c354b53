"""Quantization schemes; a scheme's file name is its name in a recipe's `steps`."""
