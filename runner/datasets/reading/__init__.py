"""Opens the sources of datasets: files, objects and pipes, decompressed and decoded."""
