"""HTTP and JSON: requests with retries and limits, answers as models, images and files."""
