"""What a run leaves behind: outcomes and their store, the run folder, the choice, timings. Free of torch."""
