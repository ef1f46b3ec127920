"""A file of questions answered: by an endpoint, several at a time, or by a batch prediction job."""
