"""SDP (RFC 8866): a lossless model, typed attribute views and offer/answer pairing, all pure."""
