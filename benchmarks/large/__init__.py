"""Put a random model whose float32 weights one ONNX file cannot hold through the stages."""
