"""What the clicks make of a backbone that was trained beforehand on simulation: features, heads in closed form, and evidence from left-out clicks."""
