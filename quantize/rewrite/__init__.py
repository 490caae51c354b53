"""Find the weights of a graph, and put quantized ones in their place."""
