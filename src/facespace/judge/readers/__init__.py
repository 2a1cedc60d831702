"""Readers of the lists and files in which benchmarks are published, a room for each format."""
