"""What the stages pass to each other: recipes, artifacts and their manifests. Standard library only."""
