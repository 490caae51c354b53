"""Refuse unusable foreign files before anything runs them: one module for each kind of refusal.

Each module has `refuse...` functions that raise InputError (exit code 3) for a file that is no usable ONNX model: not
ONNX, cut short, tensors whose bytes are not what they announce, data outside the file that cannot be trusted. A model
that can be read but is wrong is judged: the check `structure` fails (exit code 1). All of it runs in a child process.
"""
