"""The edge: bytes of a socket to an ASGI call, within bounds (L9), and nothing else.

It knows HTTP/1.x and no model, policy or key. In order: `serve` binds the socket and sets uvicorn up; `protocol` reads
the head, refuses what is no plain request, and closes without letting left-over bytes become a request; `body` reads
the body; `disconnect` tells when the caller leaves. `limits` holds every bound and every sentence of refusal.
"""

from gateway.edge.body import BODY_IDLE_S, BODY_TIMEOUT_S, ClientDisconnect, Receive, body_length, plain_head, read_body
from gateway.edge.disconnect import DisconnectWatch
from gateway.edge.limits import EdgeLimits
from gateway.edge.protocol import LIMIT_NAMES, GatewayProtocol, LimitHook, ParseErrorHook, gateway_protocol
from gateway.edge.serve import bind_socket, serve_config

__all__ = [
    "BODY_IDLE_S",
    "BODY_TIMEOUT_S",
    "LIMIT_NAMES",
    "ClientDisconnect",
    "DisconnectWatch",
    "EdgeLimits",
    "GatewayProtocol",
    "LimitHook",
    "ParseErrorHook",
    "Receive",
    "bind_socket",
    "body_length",
    "gateway_protocol",
    "plain_head",
    "read_body",
    "serve_config",
]
