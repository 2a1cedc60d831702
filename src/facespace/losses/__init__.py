"""The four systems as tensors: margins, head, triplets. Needs torch."""
