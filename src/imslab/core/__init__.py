"""The lab's core: registrar and router, a stand-in for I-CSCF and S-CSCF."""
