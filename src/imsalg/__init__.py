"""P-CSCF with IMS-ALG: a SIP proxy at the access edge that secures media by controlling an IMS-AGW over Iq."""
