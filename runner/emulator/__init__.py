"""A local server that speaks Google's wire protocol: Cloud Storage, Vertex AI and what `pulumi up` needs.

Its tuning jobs really train and its endpoints really serve. It imports none of the clients it is meant to test, so
that their mistakes cannot become its own; of the rest of the package it takes only the catalog and the dataset
parser.
"""
