"""OpenAI's wire for the text engine: chat completions, completions, and errors in OpenAI's form."""
