"""Cloud Storage: buckets, objects, uploads and downloads, in the JSON and the XML API."""
