"""Writes deployed files for ONNX Runtime and OpenVINO, runs them, and checks them against the reference interpreter."""
