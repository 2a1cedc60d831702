"""People and their photos as training data: folders, archives, splits, batches, drawn faces."""
