"""The four systems as tensors: margins, class rows, queue, groups, triplets. Needs torch.

What may be put together, and side by side, is two lines of algebra; the recipes of `train` follow it:

    any trunk × (plain | groups) × any margin × (alone | queue) + terms
    any trunk × (plain | groups) × triplets × (online | offline | harmonic) + terms that read no class rows

A head takes `(embeddings (N, D), labels (N,))` and returns a `HeadOutput`; losses are summed. A margin says what the
label's logit is (`MARGINS`, and `ADAPTIVE` for those that read more than a cosine); `MarginHead` is the softmax around
it, `BroadFace` a queue around that, and `ShardedHead` one whose class rows lie on many processes. Terms are chosen from
`AUXILIARY`. `GroupLoss` is what groups add.
"""

from facespace.losses.adaptive import (
    ADAPTIVE,
    AdaFace,
    Adaptive,
    AnnealedSphereFace,
    CurricularFace,
    MagFace,
    MVSoftmax,
)
from facespace.losses.agents import AgentContrastive, AgentTriplet, Inter, Intra
from facespace.losses.auxiliary import AUXILIARY, Center, Contrastive, Marginal, Range, Ring
from facespace.losses.broadface import BroadFace, Memory
from facespace.losses.distillation import DistillationHead
from facespace.losses.groupface import GroupLabels, GroupLoss
from facespace.losses.harmonic import Harmonic, HarmonicHead
from facespace.losses.head import AnyMargin, HeadOutput, MarginHead
from facespace.losses.margins import MARGINS, ArcFace, Combined, CosFace, Margin, NormFace, Softmax, SphereFace
from facespace.losses.offline import Offline, mine_offline
from facespace.losses.sharded import ShardedHead
from facespace.losses.subcentres import DropSettings, drop_noise
from facespace.losses.term import Auxiliary
from facespace.losses.triplet import Triplet, TripletHead
from facespace.losses.unsampled import freeze_unsampled

__all__ = [
    "ADAPTIVE",
    "AUXILIARY",
    "MARGINS",
    "AdaFace",
    "Adaptive",
    "AgentContrastive",
    "AgentTriplet",
    "AnnealedSphereFace",
    "AnyMargin",
    "ArcFace",
    "Auxiliary",
    "BroadFace",
    "Center",
    "Combined",
    "Contrastive",
    "CosFace",
    "CurricularFace",
    "DistillationHead",
    "DropSettings",
    "GroupLabels",
    "GroupLoss",
    "Harmonic",
    "HarmonicHead",
    "HeadOutput",
    "Inter",
    "Intra",
    "MVSoftmax",
    "MagFace",
    "Margin",
    "MarginHead",
    "Marginal",
    "Memory",
    "NormFace",
    "Offline",
    "Range",
    "Ring",
    "ShardedHead",
    "Softmax",
    "SphereFace",
    "Triplet",
    "TripletHead",
    "drop_noise",
    "freeze_unsampled",
    "mine_offline",
]
