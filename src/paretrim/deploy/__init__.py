"""Deployed files: written for ONNX Runtime and OpenVINO, run, and compared with the reference."""
