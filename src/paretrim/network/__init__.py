"""The trainable network: a graph as an ``nn.Module``, masks and grids on its layers, and freezing to the graph that ships."""
