"""The administrator's orders: one desk that carries each out once, and what the kinds of them do."""
