"""Stage three: judge ONNX candidates against the PyTorch reference. One file per check."""
