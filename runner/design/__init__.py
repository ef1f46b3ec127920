"""How pages look, those of the console and those that are files: one style sheet, and the elements that it is for."""
