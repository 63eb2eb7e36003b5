"""``POST /v1/customer-service``."""
