"""Parquet files and Hugging Face folders."""
