"""gRPC: vitrine.v1 over grpc.aio."""
