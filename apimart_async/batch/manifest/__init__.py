"""The jobs of a batch as a CSV file, a JSONL file or a folder of images, and their check before it starts."""
