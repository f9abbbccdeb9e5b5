"""The road of the data: telegrams in, values registered, evaluated and handed to the gate."""
