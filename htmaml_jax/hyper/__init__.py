"""Task embedding to transformed weights."""
