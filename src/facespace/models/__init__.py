"""Weights that know themselves: card, embedder (ONNX Runtime and torch behind one protocol), zoo, and use on photos.

torch is imported only by `nets`, and inside functions of `embedder` when weights are safetensors.
"""
