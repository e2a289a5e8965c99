"""Reading a dataset's source: its format, its columns, their kinds and their summaries."""
