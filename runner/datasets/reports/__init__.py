"""What a check found, as an object, a page, an export, a histogram or one example."""
