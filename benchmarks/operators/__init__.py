"""Show where a token's time goes: onnxruntime's own profile of one decode step, added up by operator."""
