"""The rules of the documented formats: from the JSON object of a line to an example, or to what is wrong with it."""
