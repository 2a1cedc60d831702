"""The plans of ablations, a file for each system; `train.plans` has them by name."""
