"""The five published benchmarks: their data, questions, scores and published results."""
