"""Files that ONNX Runtime must not see."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from facespace.errors import ModelError
from facespace.models.onnxfile import MOST_NODES, check_onnx
from tiny_onnx import tiny_model

PATH = Path("net.onnx")


def external(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """The tensor with its bytes in a file that it names."""
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return tensor


def some_tensor() -> onnx.TensorProto:
    return numpy_helper.from_array(np.zeros(1, np.float32), "t")


def in_initializer(model: onnx.ModelProto) -> None:
    external(model.graph.initializer[0])


def location_without_flag(model: onnx.ModelProto) -> None:
    external(model.graph.initializer[0]).ClearField("data_location")


def in_sparse_initializer(model: onnx.ModelProto) -> None:
    external(model.graph.sparse_initializer.add().values)


def in_attribute(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=external(some_tensor())))


def in_attribute_list(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("ts", [some_tensor(), external(some_tensor())]))


def in_sparse_attribute(model: onnx.ModelProto) -> None:
    attribute = model.graph.node[0].attribute.add()
    attribute.name, attribute.type = "s", onnx.AttributeProto.SPARSE_TENSOR
    external(attribute.sparse_tensor.indices)


def subgraph(model: onnx.ModelProto) -> None:
    branch = helper.make_graph([], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch))


def other_domain(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.example"


def function(model: onnx.ModelProto) -> None:
    model.functions.add().name = "f"


def training(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.name = "a"


def many_nodes(model: onnx.ModelProto) -> None:
    model.graph.node.extend([helper.make_node("Identity", ["in"], ["x"])] * MOST_NODES)


UNSAFE: dict[Callable[[onnx.ModelProto], None], str] = {
    in_initializer: "external data",
    location_without_flag: "external data",
    in_sparse_initializer: "external data",
    in_attribute: "external data",
    in_attribute_list: "external data",
    in_sparse_attribute: "external data",
    subgraph: "subgraph",
    other_domain: "com.example",
    function: "functions",
    training: "training",
    many_nodes: "nodes",
}


@pytest.mark.parametrize("change", UNSAFE, ids=lambda change: change.__name__)
def test_unsafe_content_is_refused_with_the_reason(change: Callable[[onnx.ModelProto], None]) -> None:
    model = tiny_model()
    change(model)
    with pytest.raises(ModelError, match=UNSAFE[change]):
        check_onnx(model.SerializeToString(), PATH)


def test_a_second_graph_that_a_parser_would_merge_is_looked_into_too() -> None:
    """Protocol buffers allow a message in pieces; the last piece must not escape the check."""
    unsafe = tiny_model()
    in_initializer(unsafe)
    with pytest.raises(ModelError, match="external data"):
        check_onnx(tiny_model().SerializeToString() + unsafe.SerializeToString(), PATH)


def test_a_plain_network_passes() -> None:
    check_onnx(tiny_model().SerializeToString(), PATH)


def refusal(content: bytes) -> str | None:
    """Which file an attempt names, or None where the bytes pass."""
    try:
        check_onnx(content, PATH)
    except ModelError as error:
        return error.file
    return None


def test_a_file_cut_anywhere_is_refused_or_harmless() -> None:
    """Only a cut between two fields leaves a message that can be read."""
    whole = tiny_model(size=16).SerializeToString()
    outcomes = [refusal(whole[:length]) for length in range(len(whole))]
    assert set(outcomes) <= {None, str(PATH)}
    assert outcomes.count(None) <= 3


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_no_other_error(content: bytes) -> None:
    with pytest.raises(ModelError):
        check_onnx(content + b"\x07", PATH)  # wire type 7 does not exist: never a model


@pytest.mark.shared
def test_the_public_models_pass(shared: Path) -> None:
    for path in sorted((shared / "models").glob("*.onnx")):
        check_onnx(path.read_bytes(), path)
