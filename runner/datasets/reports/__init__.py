"""The results of a check as an object, a page, an export, a histogram or one example."""
