"""The demo model: a tiny gpt-oss that speaks harmony. Its corpus, training, export and evaluation."""
