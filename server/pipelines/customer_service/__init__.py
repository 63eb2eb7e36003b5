"""Customer service: from what a shopper says to a quote that answers it, or to a person."""
