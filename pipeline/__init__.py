"""Hold what every stage needs: recipes, artifacts with their manifests, commands, errors. Standard library only."""
