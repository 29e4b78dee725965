"""The page of agreement between runtimes is what its command makes of the stored lines."""

import pytest
from script_files import script


@pytest.fixture(scope="module")
def maker():
    return script("benchmarks/agreement_page.py")


def test_the_page_is_fresh(maker):
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(maker.read(maker.LINES))


def test_the_native_runtime_gave_the_same_bits_for_every_network(maker):
    lines = maker.read(maker.LINES)
    assert all(line["same_bits"] and line["agreeing"]["native"] == line["images"] for line in lines)
    assert {line["network"] for line in lines} >= {"resnet20", "resnet56", "ShuffleNetV2-like", "PNASNet-like"}


def test_a_row_names_the_first_node_that_differs(maker):
    line = {
        "network": "net",
        "data": "digits",
        "images": 50,
        "dense_accuracy": 0.98,
        "accuracy": 0.96,
        "agreeing": {"native": 50, "onnxruntime": 49, "openvino": 48},
        "same_bits": True,
        "first_nodes": {"onnxruntime": None, "openvino": {"name": "body.add", "operation": "add", "share": 0.0012}},
        "versions": {"onnxruntime": "1.2", "openvino": "3.4"},
    }
    text = maker.page([line])
    assert (
        "| net, digits | 50 | 98.0 % | 96.0 % | 50 of 50 | yes | 49 of 50 | none | 48 of 50 | `body.add` (add), 0.12 % |\n"
        in text
    )
    assert text.endswith("Versions: ONNX Runtime 1.2, OpenVINO 3.4.\n")
