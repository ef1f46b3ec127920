"""The rules of the documented formats: they turn the JSON object of a line into an example or its errors."""
