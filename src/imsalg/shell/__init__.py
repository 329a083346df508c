"""The thin outside of the P-CSCF/IMS-ALG: sockets, the H.248 link, the store."""
