"""Stage one: a checkpoint becomes a float32 ONNX model. The only place that imports optimum."""
