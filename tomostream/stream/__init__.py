"""Stream training crops from stores: plan, read, turn, label and weight them."""
