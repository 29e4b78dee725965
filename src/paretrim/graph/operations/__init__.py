"""Operations of the graph: everything about one is one value in its family's module."""
