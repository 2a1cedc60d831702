"""TinyFace in its own layout, on drawn faces: ranks among photos against sorted lists."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from facespace.cli import app
from facespace.data.drawn import draw_crop, person
from facespace.errors import DataError
from facespace.faces.align import align
from facespace.faces.detect import Aligned
from facespace.faces.photo import read_photo
from facespace.judge.galleries import run_galleries
from facespace.judge.readers.tinyface import tinyface
from facespace.models.embedder import load
from tiny_onnx import save_tiny


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Of eight people one to three photos in the gallery and two probes, beside twenty strangers; 20 pixels each."""
    made = {f"Gallery_Match/{who}_{i}.jpg": (who, i) for who in range(8) for i in range(1 + who % 3)}
    made |= {f"Probe/{who}_{i}.jpg": (who, i) for who in range(8) for i in (5, 6)}
    made |= {f"Gallery_Distractor/{at}.jpg": (100 + at, 0) for at in range(20)}
    for name, (who, photo) in made.items():
        path = tmp_path / "Testing_Set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        Image.fromarray(draw_crop(person(0, who), photo)).resize((20, 20)).save(stream, "PNG")
        path.write_bytes(stream.getvalue())
    (tmp_path / "Testing_Set" / "probe_img_ID_pairs.mat").write_bytes(b"MATLAB 5.0")
    return tmp_path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx", card={}, dim=16)


def test_a_person_is_found_with_the_first_of_its_photos_among_all_others(root: Path, model: Path) -> None:
    protocol, embedder = tinyface(root), load(model, threads=1)
    result = run_galleries(protocol, embedder, Aligned(), threads=2)
    vectors = {}
    for name in protocol.names:
        pixels = read_photo((root / "Testing_Set" / name).read_bytes())
        found = Aligned().detect(pixels)[0]
        vectors[name] = embedder.embed(align(pixels, found)[None])[0].astype(np.float64)
    gallery = [name for name in protocol.names if not name.startswith("Probe/")]
    ranks = []
    for probe in (name for name in protocol.names if name.startswith("Probe/")):
        who = probe.split("/")[1].split("_")[0]
        order = sorted(gallery, key=lambda name, probe=probe: -vectors[probe] @ vectors[name])
        ranks.append(1 + min(at for at, name in enumerate(order) if name.startswith(f"Gallery_Match/{who}_")))
    assert len(ranks) == 16
    assert result.searched[0].searches.ranks.tolist() == ranks
    document = result.as_json()
    rates = {rank["k"]: rank["rate"] for rank in document["galleries"][0]["closed_set"]}
    for k in (1, 5, 20):
        assert rates[k] == np.mean(np.array(ranks) <= k)
    assert document["galleries"][0]["tpir_at_fpir"] == []
    assert document["data"] == {**document["data"], "images": 51, "people": 8}


def test_the_folder_itself_is_taken_and_what_is_missing_or_unnamed_is_refused(root: Path) -> None:
    inside = root / "Testing_Set"
    assert tinyface(inside).names == tinyface(root).names
    (inside / "Probe" / "nobody.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="does not begin with a person's number"):
        tinyface(root)
    for path in (inside / "Probe").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="holds no photo"):
        tinyface(root)
    (inside / "Probe").rmdir()
    with pytest.raises(DataError, match="Probe cannot be listed"):
        tinyface(root)


def test_the_verb_prints_the_ranks_and_refuses_nothing(root: Path, model: Path) -> None:
    asked = ["evaluate", str(model), "--protocol", "tinyface", "--data", str(root), "--detector", "aligned", "-q"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    for word in ("gallery all of 35", "rank 1 ", "rank 5 ", "rank 20 "):
        assert word in done.stdout
    assert "Refused" not in done.stderr
    document = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert document["protocol"] == "tinyface"
