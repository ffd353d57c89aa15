"""Result files: names, verified downloads and atomic files."""
