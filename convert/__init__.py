"""Stage one: a checkpoint becomes a float32 ONNX model."""
