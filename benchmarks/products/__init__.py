"""Time one product with a weight of codes: by shape, bits, block and instruction set."""
