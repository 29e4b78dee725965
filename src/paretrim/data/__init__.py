"""Images and labels: readers of the official formats, splits, and in-memory batches."""
