"""Product copy: write it, hold every claim against the record, repair or replace what does not stand there."""
