"""What one product with a weight of codes takes: by shape, bits, block and instruction set."""
