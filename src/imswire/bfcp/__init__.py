"""BFCP, the Binary Floor Control Protocol (RFC 8855; RFC 4582) over TCP and TLS: codec, framer, server and client."""
