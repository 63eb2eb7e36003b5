"""KServe v2 over gRPC: ``inference.GRPCInferenceService`` as Triton's own client has it."""

from server.grpc_api.kserve.infer import SERVICE, infer_methods
from server.grpc_api.kserve.service import LaterInference

__all__ = ["SERVICE", "LaterInference", "infer_methods"]
