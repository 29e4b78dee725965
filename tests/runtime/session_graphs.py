"""The graphs that sessions of the native runtime are tested with, one of pixels and one of floats, and their images."""

from random_graphs import random_graph

GRAPH, IMAGES = random_graph(3, quantized=True)
FLOAT_GRAPH, FLOAT_IMAGES = random_graph(3, quantized=True, pixels=False)
