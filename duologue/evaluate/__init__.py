"""What came out: statistics of data and runs, and the report that shows them."""
