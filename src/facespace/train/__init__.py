"""Recipes and the one loop that follows them. Needs torch."""
