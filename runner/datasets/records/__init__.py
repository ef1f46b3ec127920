"""Records in the shapes that other tools write, turned into examples; what is not carried over is named."""
