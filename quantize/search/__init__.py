"""Choose a scheme and its options for every tensor, within a budget, by measured KL divergence."""
