"""`pick` and `suggest`: from score maps to tables of picks, and to places worth a click."""
