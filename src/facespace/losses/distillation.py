"""Learning from a teacher: its unit vectors as targets, and the similarities it sees inside a batch.

Vector term: 1 - cosine to the teacher's vector of the same photo. Matrix term: squared difference between the two
similarity matrices of the batch (similarity-preserving distillation, ICCV 2019, on cosines), which needs no
equal dimensions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facespace.errors import UsageError
from facespace.losses.head import HeadOutput


class DistillationHead(nn.Module):
    """Embeddings float `(N, D)` against a teacher's unit vectors float `(N, T)`, by a linear map if D is not T."""

    def __init__(self, dim: int, teacher_dim: int, *, vector_weight: float = 1.0, matrix_weight: float = 1.0) -> None:
        super().__init__()
        if not (vector_weight >= 0 and matrix_weight >= 0 and vector_weight + matrix_weight > 0):
            raise UsageError(
                "a teacher with no positive weight teaches nothing", hint="vector_weight or matrix_weight > 0"
            )
        self.vector_weight, self.matrix_weight = vector_weight, matrix_weight
        self.map = nn.Identity() if dim == teacher_dim else nn.Linear(dim, teacher_dim, bias=False)

    def forward(self, embeddings: Tensor, targets: Tensor) -> HeadOutput:
        """The weighted sum of both terms, and each in the logs; distances in fp32."""
        with torch.autocast(embeddings.device.type, enabled=False):
            student = F.normalize(embeddings.float())
            vector = 1 - (F.normalize(self.map(embeddings.float())) * targets).sum(1).mean()
            n = len(targets)
            gap = student @ student.T - targets @ targets.T  # (N, N)
            matrix = gap.square().sum() / max(1, n * (n - 1))  # the diagonal is zero: the mean over pairs
        loss = self.vector_weight * vector + self.matrix_weight * matrix
        return HeadOutput(loss, {"teacher_cosine": 1 - float(vector.detach()), "matrix_gap": float(matrix.detach())})
