"""Intents: a head on the sentence encoder that says what a question is about, how sure that is, and when it is about nothing."""
