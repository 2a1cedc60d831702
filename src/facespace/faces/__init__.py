"""Bytes to aligned faces: photo, detect, align, quality. No torch."""
