"""`facespace evaluate` from the command line to figures, with a small network made on the spot."""

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from facespace.cli import app
from facespace.judge.page import percent, span


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recogniser whose vector is the mean red, green and blue of the face."""
    onnx = pytest.importorskip("onnx")
    given = onnx.helper.make_tensor_value_info("faces", onnx.TensorProto.FLOAT, ["n", 3, 112, 112])
    taken = onnx.helper.make_tensor_value_info("vectors", onnx.TensorProto.FLOAT, ["n", 3])
    nodes = [
        onnx.helper.make_node("GlobalAveragePool", ["faces"], ["mean"]),
        onnx.helper.make_node("Flatten", ["mean"], ["vectors"]),
    ]
    graph = onnx.helper.make_graph(nodes, "colours", [given], [taken])
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path_factory.mktemp("model") / "colours.onnx"
    onnx.save(made, path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve people of three photos, a colour each, and the list of pairs of two of them."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for person in range(12):
        (root / f"p{person}").mkdir()
        colour = rng.integers(30, 225, 3)
        for i in range(1, 4):
            rgb = tuple((colour + rng.integers(-15, 15, 3)).tolist())
            Image.new("RGB", (112, 112), rgb).save(root / f"p{person}" / f"p{person}_{i:04d}.png")
    (root / "pairs.txt").write_text("2\t1\np0\t1\t2\np0\t1\tp1\t1\np2\t1\t3\np3\t1\tp4\t2\n")
    return root


def call(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def options(model: Path, data: Path) -> list[object]:
    preprocessing = ["--channels", "rgb", "--mean", 127.3, "--std", 128]
    return [model, "--data", data, "--detector", "aligned", *preprocessing, "--threads", 2, "--quiet"]


def test_any_folder_of_people_is_judged_and_json_is_all_that_stdout_holds(model: Path, data: Path) -> None:
    status, out, _ = call(*options(model, data), "--json")
    document = json.loads(out)
    assert status == 0
    assert document["protocol"] == "folder"
    assert (document["data"]["people"], document["folds"]) == (12, 6)
    assert document["environment"]["threads"] == 2


def test_a_list_of_pairs_means_the_protocol_of_lfw(model: Path, data: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    status, out, _ = call(*options(model, data), "--pairs", data / "pairs.txt", "--report", report, "--json")
    document = json.loads(out)
    assert status == 0
    assert (document["protocol"], document["pairs"], document["folds"]) == ("lfw", 4, 2)
    assert document["model"]["dim"] == 3
    assert "colours on lfw" in report.read_text(encoding="utf-8")


def test_the_table_has_the_figures_and_stderr_what_was_refused(model: Path, data: Path) -> None:
    status, out, err = call(*options(model, data), "--protocol", "lfw", "--pairs", data / "pairs.txt", "--folds", "1-2")
    assert status == 0
    for word in ("accuracy", "TAR at FAR 0.1 %", "EER", "AUC", "refused"):
        assert word in out
    assert "Refused: TAR at FAR 1 %: 2 impostor pairs cannot show a FAR of 0.01" in err
    assert "Refused: VAL at FAR 0.01 %: 1 impostor" in err


def test_the_equal_error_rate_stands_with_its_interval_in_table_and_page(
    model: Path, data: Path, tmp_path: Path
) -> None:
    _, out, _ = call(*options(model, data), "--report", tmp_path / "report.html")
    document = json.loads((tmp_path / "report.json").read_bytes())
    interval = span(document["eer"]["ci95"])
    (row,) = (line for line in out.splitlines() if line.startswith("EER"))
    assert " ".join(row.split()) == f"EER {percent(document['eer']['rate'])} {interval}"
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count(interval) >= 2


def test_mirror_image_and_ties_are_as_asked(model: Path, data: Path) -> None:
    """The colour of a face is that of its mirror image."""
    documents = [
        json.loads(call(*options(model, data), *more, "--json")[1])
        for more in ([], *(["--flip", how] for how in ("sum", "concat")))
    ]
    assert [document["model"]["name"] for document in documents] == ["colours", "colours+flip", "colours+flip-concat"]
    assert [document["model"]["dim"] for document in documents] == [3, 3, 6]
    assert len({document["model"]["contract"] for document in documents}) == 3
    assert documents[0]["accuracy"]["mean"] == documents[1]["accuracy"]["mean"]
    rejecting = json.loads(call(*options(model, data), "--ties", "reject", "--json")[1])
    assert (documents[0]["ties"], rejecting["ties"]) == ("accept", "reject")
    assert rejecting["threshold"] < documents[0]["threshold"]


def test_retrieval_prints_its_figures_and_json_holds_them(model: Path, data: Path) -> None:
    status, out, err = call(*options(model, data), "--protocol", "retrieval")
    assert status == 0
    for word in ("36 queries among 36 photos of 12 people", "recall at 1", "recall at 10", "mean average precision"):
        assert word in out
    assert "Refused: recall at 100: the 100 nearest of 35 other photos are all of them" in err
    status, out, _ = call(*options(model, data), "--protocol", "retrieval", "--json")
    document = json.loads(out)
    assert status == 0
    assert document["protocol"] == "retrieval"
    assert document["recall_at"][0]["k"] == 1
    assert 0 <= document["recall_at"][0]["ci95"][0] <= document["recall_at"][0]["recall"] <= 1


@pytest.mark.parametrize("protocol", ["retrieval", "clustering", "identification"])
def test_every_protocol_has_a_report(model: Path, data: Path, tmp_path: Path, protocol: str) -> None:
    report = tmp_path / "report.html"
    status, out, _ = call(*options(model, data), "--protocol", protocol, "--report", report, "--json")
    assert status == 0
    assert f"colours on {protocol}" in report.read_text(encoding="utf-8")
    document = json.loads(report.with_suffix(".json").read_bytes())
    assert document["card"]["input"]["mean"] == 127.3
    printed = json.loads(out)
    assert {key: document[key] for key in printed} == printed


def test_clustering_prints_its_figures_and_json_holds_them(model: Path, data: Path) -> None:
    arguments = [*options(model, data), "--protocol", "clustering", "--threshold", 0.98]
    status, out, _ = call(*arguments)
    assert status == 0
    for word in ("36 photos of 12 people", "pairwise F", "BCubed precision", "NMI", "at least 0.9800 (given)"):
        assert word in out
    document = json.loads(call(*arguments, "--json")[1])
    assert document["bcubed"]["f"]["ci95"][0] <= document["bcubed"]["f"]["value"] <= 1


def test_identification_prints_its_figures_and_json_holds_them(model: Path, data: Path, tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("person,half\n" + "".join(f"p{i},{'ab'[i % 2]}\n" for i in range(12)))
    asked = [*options(model, data), "--protocol", "identification", "--groups", table]
    status, out, err = call(*asked)
    assert status == 0
    for word in (
        "12 searches of enrolled people, 18 of others",
        "rank 1",
        "TPIR at FPIR 10 %",
        "by half",
        "worst / best",
    ):
        assert word in out
    assert "18 non-mated searches cannot show an FPIR of 0.01" in err
    assert re.search(r"Refused: ratios of FPIR by half at 0\.\d{4}: a group has no rate\.", err)
    assert re.search(r"Refused: FPIR of half a at 0\.\d{4}: \d+ trials cannot show", err)
    document = json.loads(call(*asked, "--rank", 2, "--json")[1])
    assert (document["protocol"], document["open_set"]["rank"]) == ("identification", 2)
    assert {one["column"] for one in document["groups"]} == {"half"}
    assert json.loads(call(*options(model, data), "--json")[1])["groups"] == "not measured"
    assert "FMR by half" in call(*options(model, data), "--groups", table)[1]


def test_a_name_misspelt_in_a_table_of_groups_is_told(model: Path, data: Path, tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("person,half\np0,a\np1,b\ntypo-0002,a\n")
    said = "Note: groups.csv: 1 of 3 rows names nobody (typo-0002); 30 of 36 photos are in no group."
    loud = [word for word in options(model, data) if word != "--quiet"]
    for protocol in ("folder", "identification"):
        asked = ["--protocol", protocol, "--groups", table, "--json"]
        assert said in call(*loud, *asked)[2]
        assert "Note" not in call(*loud, *asked, "--quiet")[2]
    others = tmp_path / "others" / "typo-0002" / "1.png"
    others.parent.mkdir(parents=True)
    others.write_bytes((data / "p0" / "p0_0001.png").read_bytes())
    assert said in call(*loud, *asked, "--distractors", tmp_path / "others")[2]  # who searches for nobody
    table.write_text("photo,half\np0/p0_0001.png,a\np0/0001.png,b\np0/0002.png,b\n")
    assert "2 of 3 rows name no photo (first p0/0001.png); 35 of 36 photos" in call(*loud, *asked)[2]


def test_groups_of_persons_are_refused_before_any_photo_is_read_where_the_data_name_nobody(
    data: Path, tmp_path: Path
) -> None:
    (tmp_path / "groups.csv").write_text("person,half\np0,a\np1,b\n")
    photos = [(data / f"p{i}" / f"p{i}_000{j}.png").read_bytes() for i in range(4) for j in (1, 2)]
    (tmp_path / "set.bin").write_bytes(pickle.dumps((photos + photos[1:] + photos[:1], [True, False] * 4), 2))
    where = ("--data", tmp_path / "set.bin", "--protocol", "bin", "--groups", tmp_path / "groups.csv")
    status, out, _ = call("absent.onnx", *where, "--json")
    error = json.loads(out)["error"]
    assert (status, error["code"]) == (5, "bad_data")
    assert error["message"] == "these data do not say whose the photos are, and the groups are of persons"
    assert "column photo" in error["hint"]


@pytest.mark.parametrize(
    ("extra", "code", "status"),
    [
        (["--protocol", "lfw"], "usage", 2),
        (["--protocol", "folder", "--folds", "1-2"], "usage", 2),
        (["--protocol", "retrieval", "--pairs", "{data}/pairs.txt"], "usage", 2),
        (["--threshold", "0.5"], "usage", 2),
        (["--report", "{data}/report.json"], "usage", 2),
        (["--report", "{data}"], "usage", 2),
        (["--report", "{data}/absent/report.html"], "usage", 2),
        (["--protocol", "retrieval", "--data", "{data}/p1"], "bad_data", 5),
        (["--protocol", "retrieval", "--commercial"], "refused", 7),
        (["--protocol", "retrieval", "--ties", "reject"], "usage", 2),
        (["--protocol", "retrieval", "--groups", "{data}/pairs.txt"], "usage", 2),
        (["--protocol", "identification", "--nonmates", "1"], "usage", 2),
        (["--protocol", "identification", "--nonmates", "-0.1"], "usage", 2),
        (["--protocol", "identification", "--distractors", "{data}"], "bad_data", 5),
        (["--protocol", "folder", "--enrol", "2"], "usage", 2),
        (["--groups", "{data}/pairs.txt"], "bad_data", 5),
        (["--pairs", "{data}/pairs.txt", "--folds", "2"], "usage", 2),
        (["--pairs", "{data}/absent.txt"], "bad_data", 5),
        (["--data", "{data}/p1"], "bad_data", 5),
        (["--commercial"], "refused", 7),
        (["--seed", "-1"], "usage", 2),
        (["--channels", "rgb", "--model-that-is-none"], "usage", 2),
    ],
)
def test_contradictions_and_missing_data_have_their_status(
    model: Path, data: Path, extra: list[str], code: str, status: int
) -> None:
    arguments = [text.format(data=data) for text in extra]
    got, out, _ = call(*options(model, data), *arguments, "--json")
    assert json.loads(out)["error"]["code"] == code
    assert got == status
