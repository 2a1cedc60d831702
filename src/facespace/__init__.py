"""facespace: photos of people as points of a space in which distance means identity."""

__version__ = "0.1.0"
