"""Images of datasets: what their bytes say, a closer look at pixels, uploads."""
