"""The toy world: films of coloured shapes, their questions, and the small model trained on them."""
