"""Images of datasets: what their bytes reveal, decoding of pixels, uploads."""
