"""A re-ranker behind a published recommender: DLRM or DCN-v2 on its candidates, proven against its own order."""
