"""A judged model whose vectors Joint Bayesian compares, as DeepID2+ does."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facespace.core.contracts import AlignedFaces, Embedder, Vectors
from facespace.core.joint_bayesian import PCA, JointBayesian
from facespace.core.scores import unit_vectors
from facespace.data.folder import PhotoRef
from facespace.faces.detect import Aligned
from facespace.judge.protocols import made_pairs
from facespace.judge.run import run
from facespace.models.rescored import Rescored


class Colours:
    """The mean colours of the four quarters of a face: half of the twelve numbers are of light alone."""

    name, dim, contract = "colours", 12, "c0105"

    def embed(self, faces: AlignedFaces) -> Vectors:
        return unit_vectors(faces.reshape(len(faces), 2, 56, 2, 56, 3).mean((2, 4)).reshape(len(faces), -1) - 127.3)

    def similarity(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        return a @ b.T


def photo(person: int, number: int) -> bytes:
    """The upper half is the person's; the lower is any, and much stronger."""
    own, light = np.random.default_rng([person]), np.random.default_rng([person, number])
    cells = np.empty((2, 2, 3))
    cells[0] = 127 + own.normal(0, 12, (2, 3)) + light.normal(0, 3, (2, 3))
    cells[1] = 127 + light.normal(0, 40, (2, 3))
    pixels = np.repeat(np.repeat(cells, 56, 0), 56, 1).clip(0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_joint_bayesian_finds_what_cosines_drown() -> None:
    """Learnt on other people, in the components of PCA; the judge takes it like any embedder."""
    plain: Embedder = Colours()
    train = [(person, number) for person in range(100, 160) for number in range(4)]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(photo(*who)))) for who in train])
    vectors, labels = plain.embed(pixels), np.array([person for person, _ in train])
    pca = PCA.fit(vectors, 11)
    model = JointBayesian.fit(pca.transform(vectors), labels)
    rescored: Embedder = Rescored(
        plain, lambda a, b: model.similarity(pca.transform(a), pca.transform(b)), "joint-bayesian"
    )

    content = {f"p{i:02d}/{j}.png": photo(i, j) for i in range(20) for j in range(3)}
    protocol = made_pairs([PhotoRef(name.split("/")[0], name) for name in content], content.__getitem__)
    before, after = (run(protocol, embedder, Aligned(), threads=1) for embedder in (plain, rescored))
    assert before.figures.auc < 0.75
    assert after.figures.auc > 0.9
    assert after.model == {"name": "colours+joint-bayesian", "contract": "c0105", "dim": 12}
    assert (after.scores < 0).any()
    assert (after.scores > 0).any()
