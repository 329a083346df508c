"""H.248 text encoding (RFC 3525 Annex B): model, lexer, parser, writer, the Iq profile and transactions, all pure."""
