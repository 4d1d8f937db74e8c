"""A model's results as a page for reading: one HTML file that opens from disk, and files for other tools."""
