"""Compute what checks compare: chosen tokens, answers of single modules, texts side by side."""
