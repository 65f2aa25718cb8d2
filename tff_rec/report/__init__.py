"""What a study found, as one HTML page, its Markdown twin and the README's section."""
