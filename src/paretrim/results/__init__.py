"""The results of a run: outcomes and their file, the run folder, the choice, timings. Free of torch."""
