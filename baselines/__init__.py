"""What EM-MIL is compared with and gated by (Sec. 3.5, Table 3)."""
