"""Quantization: calibration and the stage that puts a network on integer grids."""
