"""The four systems as tensors: margins, head, triplets. Needs torch.

A head takes `(embeddings (N, D), labels (N,))` and returns a `HeadOutput`; a margin says what the label's logit is.
"""

from facespace.losses.head import HeadOutput, MarginHead
from facespace.losses.margins import MARGINS, ArcFace, Combined, CosFace, Margin, NormFace, Softmax, SphereFace
from facespace.losses.triplet import Triplet, TripletHead

__all__ = [
    "MARGINS",
    "ArcFace",
    "Combined",
    "CosFace",
    "HeadOutput",
    "Margin",
    "MarginHead",
    "NormFace",
    "Softmax",
    "SphereFace",
    "Triplet",
    "TripletHead",
]
