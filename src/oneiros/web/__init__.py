"""The player in the browser: a page, the server behind it, and what the two say to each other."""
