"""What a run leaves behind beside its figures: vectors, failures, speed, memory, surroundings."""

from dataclasses import dataclass
from typing import Any

from facespace.core.contracts import Detector, Embedder
from facespace.faces.detect import Policy
from facespace.faces.given import GivenFaces
from facespace.judge.embedding import Embedded, Failure
from facespace.judge.environment import describe_environment, peak_memory_bytes


@dataclass(frozen=True)
class Circumstances:
    """One model, its vectors, and what they were made with."""

    model: dict[str, Any]
    embedded: Embedded
    environment: dict[str, Any]
    peak_memory_bytes: int | None
    """The most that this process has held so far; None where the system does not say."""

    @classmethod
    def of(
        cls,
        embedder: Embedder,
        embedded: Embedded,
        detector: Detector | GivenFaces,
        policy: Policy,
        threads: int,
        device: str,
    ) -> "Circumstances":
        """Those of this process, now; `detector` is where the faces come from."""
        return cls(
            model={"name": embedder.name, "contract": embedder.contract, "dim": embedder.dim},
            embedded=embedded,
            environment=describe_environment(threads, device, detector.source, policy),
            peak_memory_bytes=peak_memory_bytes(),
        )


@dataclass(frozen=True)
class Evaluated:
    """The part of an evaluation that is the same whatever was asked of the model."""

    circumstances: Circumstances

    @property
    def model(self) -> dict[str, Any]:
        """`{"name", "contract", "dim"}`."""
        return self.circumstances.model

    @property
    def embedded(self) -> Embedded:
        """Vectors of all photos."""
        return self.circumstances.embedded

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Photos that gave no face."""
        return self.embedded.failures

    @property
    def digest(self) -> str:
        """Of the names and contents of all photos."""
        return self.embedded.digest

    @property
    def seconds(self) -> float:
        """From bytes to vectors."""
        return self.embedded.seconds

    @property
    def images_per_s(self) -> float:
        """Photos per second from bytes to vectors, all workers together."""
        return len(self.embedded.vectors) / self.seconds

    @property
    def environment(self) -> dict[str, Any]:
        """See `judge.environment`."""
        return self.circumstances.environment

    @property
    def peak_memory_bytes(self) -> int | None:
        """The most that the process had held by the end."""
        return self.circumstances.peak_memory_bytes

    def failures_as_json(self, **more: Any) -> dict[str, Any]:
        """`{"to_acquire", "files", ...}`."""
        return {"to_acquire": len(self.failures), "files": [failure.as_json() for failure in self.failures], **more}

    def circumstances_as_json(self, people: int | None) -> dict[str, Any]:
        """`{"speed", "data", "environment"}`."""
        speed = {"images_per_s": self.images_per_s, "seconds": self.seconds}
        return {
            "speed": {**speed, "peak_memory_bytes": self.peak_memory_bytes},
            "data": {"digest": self.digest, "images": len(self.embedded.vectors), "people": people},
            "environment": self.environment,
        }
