"""Wide area network: administrator (GWA), market participants (EMP) and time."""
