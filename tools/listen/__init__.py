"""What a receiver hears: gathering it, and turning a meter that was heard into a meter profile."""
