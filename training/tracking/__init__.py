"""Where the numbers of a run go beside its log: TensorBoard, Weights & Biases, pictures."""
