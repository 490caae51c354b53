"""Measure what a browser without WebGPU gets: our variants and the stock ones in onnxruntime-web's wasm."""
