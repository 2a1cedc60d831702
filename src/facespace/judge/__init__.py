"""Numbers one can trust: protocols, runs and reports. No torch."""
