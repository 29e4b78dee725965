"""Operations of the graph: everything that is known of one stands in one value of its family's module."""
