"""The administrator's channel: orders in, receipts out."""
