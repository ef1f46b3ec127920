"""A local server with Google's APIs: Cloud Storage, Vertex AI and the APIs that `pulumi up` needs.

Its tuning jobs train real models, and its endpoints serve them. It imports none of the clients that it tests, so that
it cannot repeat their errors. From the rest of the package, it uses only the catalog and the dataset parser.
"""
