"""Answer a file of questions, through an endpoint with concurrent requests or with a batch prediction job."""
