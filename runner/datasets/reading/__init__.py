"""Where datasets come from: files, objects and pipes, decompressed and decoded."""
